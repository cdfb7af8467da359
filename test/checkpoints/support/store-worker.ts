/** A tab of its own: files of OPFS can be written in workers only. */
import * as Comlink from 'comlink';
import { deleteDB, openDB } from 'idb';
import { toWire, type ErrorWire } from '../../../src/api/contract/errors';
import { Catalog } from '../../../src/checkpoints/catalog';
import { MemoryStore } from '../../../src/checkpoints/memory-store';
import { OpfsStore } from '../../../src/checkpoints/opfs-store';
import type { Store } from '../../../src/checkpoints/store';
import type { Sweep } from '../../../src/checkpoints/sweep';
import { storeContract } from '../store-contract';
import { churn, type Event, Judge } from './journal';
import { listMany, manyRecords } from './many';
import { pathOf, sample, sameAdapter, sampleMatrices } from './samples';

const kinds: Record<'opfs' | 'memory', () => () => Promise<Store>> = {
  opfs: () => {
    const name = `test-${crypto.randomUUID()}`;
    return () => OpfsStore.open({ name });
  },
  memory: () => {
    const store = new MemoryStore();
    return async () => store;
  },
};

/** Names in the directory of a store, of whatever kind. */
async function foldersOf(name: string): Promise<number> {
  const root = await navigator.storage.getDirectory();
  const names: string[] = [];
  for await (const folder of (await root.getDirectoryHandle(name)).keys()) names.push(folder);
  return names.length;
}

const judges = new Map<string, Judge>();

const calls = {
  /** Runs a case of the contract on a new store. */
  runCase: (kind: keyof typeof kinds, name: string): Promise<void> => storeContract[name]!(kinds[kind]()),

  /** Saves and deletes until it is killed, or `count` is reached. */
  churn: async (
    name: string,
    lane: string,
    first: number,
    report: (event: Event) => unknown,
    count = Infinity,
  ): Promise<void> => {
    // freed when this worker is gone
    void navigator.locks.request(
      `${name}:alive:${lane}`,
      { mode: 'shared' },
      () => new Promise(() => undefined),
    );
    const catalog = await Catalog.open(await OpfsStore.open({ name }));
    await churn(catalog, lane, first, report, count);
    await catalog.close();
  },

  /** Opens a store anew, sweeps, and judges what is there after these events, and those of earlier calls. */
  judge: async (
    name: string,
    lane: string,
    events: readonly Event[],
  ): Promise<{ swept: Sweep; visible: number; folders: number; reported: number }> => {
    const judge = judges.get(name + lane) ?? new Judge();
    judges.set(name + lane, judge);
    for (const event of events) judge.hear(event);
    const catalog = await Catalog.open(await OpfsStore.open({ name }));
    const swept = await catalog.swept;
    const visible = await judge.check(catalog, lane);
    await catalog.close();
    return { swept, visible, folders: await foldersOf(name), reported: judge.reported };
  },

  /** Opens a store anew, sweeps, and loads all that is there. */
  inspect: async (
    name: string,
  ): Promise<{ swept: Sweep; folders: number; found: { id: string; step: number }[] }> => {
    const catalog = await Catalog.open(await OpfsStore.open({ name }));
    const swept = await catalog.swept;
    const found: { id: string; step: number }[] = [];
    const { checkpoints } = await catalog.listUserCheckpoints({ limit: 1000, offset: 0 });
    for (const { tinkerPath, checkpointId: id } of checkpoints) {
      const { record } = await catalog.load(tinkerPath, { optimizer: true });
      found.push({ id, step: record.step });
    }
    await catalog.close();
    return { swept, folders: await foldersOf(name), found };
  },

  /** Lists `count` checkpoints from a store that has just been opened. */
  listMany: async (count: number): ReturnType<typeof listMany> => {
    const name = `test-${crypto.randomUUID()}`;
    await (await OpfsStore.open({ name })).close();
    const db = await openDB(name);
    const transaction = db.transaction('checkpoints', 'readwrite');
    for (const [key, value] of manyRecords(count)) void transaction.store.put(value, key);
    await transaction.done;
    db.close();
    return listMany(() => OpfsStore.open({ name }));
  },

  /** Saves one checkpoint; undefined, or what was thrown. */
  trySave: async (name: string, seed: number, rank: number): Promise<ErrorWire | undefined> => {
    const catalog = await Catalog.open(await OpfsStore.open({ name }));
    try {
      const { adapter } = sample(seed);
      const m = sampleMatrices(seed, rank);
      const optimizer = rank === 2 ? sample(seed).optimizer : { step: 1, m, v: m };
      await catalog.save(sample(seed, { adapter: { ...adapter, rank }, matrices: m, optimizer }));
      return undefined;
    } catch (error) {
      return toWire(error);
    } finally {
      await catalog.close();
    }
  },

  /** Loads what `trySave` saved, and says how many folders there are. */
  tryLoad: async (name: string, seed: number): Promise<number> => {
    const catalog = await Catalog.open(await OpfsStore.open({ name }));
    const saved = sample(seed);
    sameAdapter(await catalog.load(pathOf(saved), { optimizer: true }), saved);
    await catalog.close();
    return foldersOf(name);
  },

  /** Deletes what `trySave` saved; undefined, or what was thrown. */
  tryDelete: async (name: string, seed: number): Promise<ErrorWire | undefined> => {
    const catalog = await Catalog.open(await OpfsStore.open({ name }));
    try {
      await catalog.delete(pathOf(sample(seed)));
      return undefined;
    } catch (error) {
      return toWire(error);
    } finally {
      await catalog.close();
    }
  },

  /** Saves, loses everything to whoever clears the site's data, and saves again; how many checkpoints and folders are there. */
  saveAfterClearing: async (): Promise<{ visible: number; folders: number }> => {
    const name = `test-${crypto.randomUUID()}`;
    const catalog = await Catalog.open(await OpfsStore.open({ name }));
    await catalog.save(sample(1));
    await catalog.listUserCheckpoints({ limit: 9, offset: 0 });
    await deleteDB(name);
    await (await navigator.storage.getDirectory()).removeEntry(name, { recursive: true });
    await catalog.save(sample(2));
    sameAdapter(await catalog.load(pathOf(sample(2)), { optimizer: true }), sample(2));
    const { checkpoints } = await catalog.listUserCheckpoints({ limit: 9, offset: 0 });
    await catalog.close();
    return { visible: checkpoints.length, folders: await foldersOf(name) };
  },

  /** What is thrown when a later version of the library has opened the store in another tab. */
  saveAfterUpgrade: async (): Promise<ErrorWire | undefined> => {
    const name = `test-${crypto.randomUUID()}`;
    const catalog = await Catalog.open(await OpfsStore.open({ name }));
    await catalog.save(sample(1));
    (await openDB(name, 2)).close();
    const error = await catalog.save(sample(2)).catch(toWire);
    await catalog.close();
    return 'folder' in error ? undefined : error;
  },

  usage: async (name: string): ReturnType<Catalog['usage']> => {
    const catalog = await Catalog.open(await OpfsStore.open({ name }));
    const usage = await catalog.usage();
    await catalog.close();
    return usage;
  },
};

export type StoreWorker = typeof calls;
Comlink.expose(calls);
