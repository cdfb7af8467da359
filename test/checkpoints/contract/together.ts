/** Several tabs or processes on one store. */
import { NotFoundError } from '../../../src/api/contract/errors';
import { Catalog } from '../../../src/checkpoints/catalog';
import type { Store } from '../../../src/checkpoints/store';
import { equal, ok } from '../support/check';
import { pathOf, sample, sameAdapter } from '../support/samples';
import { page, type StoreCases } from './cases';

/** A store that does something else before, or after, one of its calls. */
function interrupted(
  inner: Store,
  hooks: Partial<Record<'before' | 'after', (call: keyof Store) => Promise<void>>>,
): Store {
  return new Proxy(inner, {
    get: (target, call: keyof Store) => {
      const member = Reflect.get(target, call) as unknown;
      if (typeof member !== 'function') return member;
      return async (...args: unknown[]): Promise<unknown> => {
        await hooks.before?.(call);
        const result: unknown = await Reflect.apply(member, target, args);
        await hooks.after?.(call);
        return result;
      };
    },
  });
}

export const together: StoreCases = {
  'sees at once what another handle has changed': async (open) => {
    const [mine, other] = await Promise.all([open(), open()]);
    const seen = async (): Promise<string> =>
      JSON.stringify([
        ...(await mine.list('runs')).records.values(),
        ...(await mine.list('runs', 'a')).records.keys(),
      ]);
    equal(await seen(), '[]', 'at first');
    await other.update('runs', 'a', () => ({ x: 1 }));
    equal(await seen(), '[{"x":1},"a"]', 'made by another');
    await mine.update('runs', 'b', () => ({ x: 2 }));
    equal(await seen(), '[{"x":1},{"x":2},"a"]', 'made by itself');
    await mine.update('sessions', 's', () => ({}));
    await other.update('runs', 'a', () => ({ x: 3 }));
    await mine.update('runs', 'aa', () => ({ x: 4 }));
    equal(await seen(), '[{"x":3},{"x":4},{"x":2},"a","aa"]', 'by both');
    await mine.remove('runs', 'a');
    await other.remove('runs', 'b');
    equal(await seen(), '[{"x":4},"aa"]', 'removed');
  },

  'loses nothing that is saved while another sweeps': async (open) => {
    const saver = await Catalog.open(await open());
    let seed = 0;
    const after = async (call: keyof Store): Promise<void> => {
      // after each step of the sweep a save begins and ends
      if (call === 'listFolders' || call === 'list') await saver.save(sample(++seed));
    };
    const sweeper = await Catalog.open(interrupted(await open(), { after }));
    equal(await sweeper.swept, { orphans: 0, expired: 0 }, 'swept');
    equal(seed, 4, 'saves');
    for (const saved of [sample(1), sample(2), sample(3), sample(4)]) {
      sameAdapter(await saver.load(pathOf(saved), { optimizer: true }), saved);
    }
  },

  'loses nothing when another sweeps at any moment of saving': async (open) => {
    const swept: (keyof Store)[] = [];
    const before = async (call: keyof Store): Promise<void> => {
      swept.push(call);
      await (
        await Catalog.open(await open())
      ).swept;
    };
    const catalog = await Catalog.open(interrupted(await open(), { before }));
    await catalog.swept;
    for (const saved of [sample(1), sample(2, { name: 'n1', overwrite: true })]) {
      await catalog.save(saved);
      sameAdapter(await catalog.load(pathOf(saved), { optimizer: true }), saved);
    }
    ok(swept.includes('update') && swept.includes('removeFolder'), 'it was interrupted');
  },

  'stays whole when two write, replace, read and delete the same names': async (open) => {
    const stores = await Promise.all([open(), open()]);
    const catalogs = await Promise.all(stores.map((store) => Catalog.open(store)));
    const saved = new Map(
      [100, 200].flatMap((at) =>
        Array.from({ length: 12 }, (_, i) => [
          at + i,
          sample(at + i, { name: `x${i % 2}`, overwrite: true }),
        ]),
      ),
    );
    const work = async (catalog: Catalog, first: number): Promise<void> => {
      for (let i = 0; i < 12; i++) {
        const mine = saved.get(first + i)!;
        await catalog.save(mine);
        try {
          const loaded = await catalog.load(pathOf(mine), { optimizer: true });
          // whose it is shows in its step
          sameAdapter(loaded, saved.get(loaded.record.step)!);
          if (i % 4 === 3) await catalog.delete(pathOf(mine));
        } catch (error) {
          // the other has just deleted it
          if (!(error instanceof NotFoundError)) throw error;
        }
      }
    };
    const opening = Promise.all(
      Array.from({ length: 8 }, async () => (await Catalog.open(await open())).swept),
    );
    await Promise.all([work(catalogs[0]!, 100), work(catalogs[1]!, 200), opening]);
    const left = (await catalogs[0]!.listUserCheckpoints(page)).checkpoints;
    for (const { tinkerPath } of left) {
      const loaded = await catalogs[1]!.load(tinkerPath, { optimizer: true });
      sameAdapter(loaded, saved.get(loaded.record.step)!);
    }
    equal(await (await Catalog.open(await open())).swept, { orphans: 0, expired: 0 }, 'swept');
    equal((await stores[0].listFolders()).length, left.length, 'folders');
  },
};
