/** Processes that are killed while they save, and processes that save together. */
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { build } from 'vite';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Catalog } from '../../../src/checkpoints/catalog';
import { FolderStore } from '../../../src/checkpoints/node/folder-store';
import { Judge, type Event } from '../../checkpoints/support/journal';

let root: string;
let script: string;
beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'webtinker-crash-'));
  await build({
    configFile: false,
    logLevel: 'warn',
    build: {
      ssr: fileURLToPath(new URL('support/saver.ts', import.meta.url)),
      outDir: root,
      emptyOutDir: false,
      rollupOptions: { output: { entryFileNames: 'saver.mjs' } },
    },
    ssr: { noExternal: true },
  });
  script = join(root, 'saver.mjs');
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

interface Saver {
  readonly process: ChildProcessByStdio<null, Readable, null>;
  /** lines that were heard */
  readonly lines: string[];
  /** when it is gone, and all it said was heard */
  readonly ended: Promise<number | null>;
}

let seeds = 0;

/** Starts a process that saves. `limit`: no file of its may be larger than so many KiB. */
function start(
  folder: string,
  lane: string,
  hear: (event: Event) => void,
  { count, limit, first = (seeds += 1000) }: { count?: number; limit?: number; first?: number } = {},
): Saver {
  // by default, each process goes on where the seeds of all before it ended
  const args = [script, folder, lane, String(first), ...(count === undefined ? [] : [String(count)])];
  const [command, ...rest] =
    limit === undefined
      ? [process.execPath, ...args]
      : ['bash', '-c', `ulimit -f ${limit}; exec "$@"`, 'bash', process.execPath, ...args];
  const child = spawn(command, rest, { stdio: ['ignore', 'pipe', 'inherit'] });
  const lines: string[] = [];
  createInterface(child.stdout).on('line', (line) => {
    lines.push(line);
    const said = JSON.parse(line) as unknown;
    if (Array.isArray(said)) hear(said as unknown as Event);
  });
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
  return { process: child, lines, ended };
}

/** Starts a saver and kills it at a random moment of opening the store, or of one of the first saves. */
async function killOne(folder: string, lane: string, judge: Judge): Promise<void> {
  const saver = start(folder, lane, (event) => judge.hear(event));
  const after = 1 + Math.floor(Math.random() * 6);
  while (saver.lines.length < after) await sleep(1);
  await sleep(Math.random() * 12);
  saver.process.kill('SIGKILL');
  expect(await saver.ended, 'it was killed, not done').toBe(null);
}

const within = (folder: string, part: string): string[] => readdirSync(join(folder, part));

test('what was reported saved survives 100 kills, and nothing else stays', async () => {
  const folder = mkdtempSync(join(root, 'store-'));
  const judge = new Judge();
  let orphans = 0;
  for (let kill = 0; kill < 100; kill++) {
    await killOne(folder, 'a', judge);
    const catalog = await Catalog.open(await FolderStore.open(folder));
    orphans += (await catalog.swept).orphans;
    const visible = await judge.check(catalog, 'a');
    expect(within(folder, 'folders')).toHaveLength(visible);
    expect(within(folder, 'records/checkpoints')).toHaveLength(visible);
    expect([...within(folder, 'tmp'), ...within(folder, 'writing')]).toEqual([]);
    expect(within(folder, 'mutex').length).toBeLessThanOrEqual(2);
  }
  console.log(`100 kills: ${judge.reported} saves reported, ${orphans} torn ones reclaimed`);
  // else the kills came at moments that prove nothing
  expect(judge.reported).toBeGreaterThan(50);
  expect(orphans).toBeGreaterThan(10);
});

test('the death of one process does not disturb another, 120 times', async () => {
  const folder = mkdtempSync(join(root, 'store-'));
  const lane = async (name: string): Promise<Judge> => {
    const judge = new Judge();
    for (let kill = 0; kill < 60; kill++) {
      await killOne(folder, name, judge);
      const catalog = await Catalog.open(await FolderStore.open(folder));
      await catalog.swept;
      await judge.check(catalog, name);
    }
    return judge;
  };
  const judges = await Promise.all(['a', 'b'].map(lane));
  const catalog = await Catalog.open(await FolderStore.open(folder));
  await catalog.swept;
  const visible = (await judges[0]!.check(catalog, 'a')) + (await judges[1]!.check(catalog, 'b'));
  expect(within(folder, 'folders')).toHaveLength(visible);
});

test('a file that cannot grow is a full disk to its saver, and leaves what there was', async () => {
  const folder = mkdtempSync(join(root, 'store-'));
  const judge = new Judge();
  expect(await start(folder, 'a', (event) => judge.hear(event), { count: 4 }).ended).toBe(0);
  // the files of an adapter of this size are a little larger
  const full = start(folder, 'a', (event) => judge.hear(event), { count: 4, limit: 1 });
  expect(await full.ended).toBe(1);
  expect(JSON.parse(full.lines.at(-1)!)).toMatchObject({ name: 'StorageFullError' });
  const catalog = await Catalog.open(await FolderStore.open(folder));
  expect(await catalog.swept).toEqual({ orphans: 0, expired: 0 });
  const visible = await judge.check(catalog, 'a');
  expect(visible).toBeGreaterThan(0);
  expect(within(folder, 'folders')).toHaveLength(visible);
  // where not one byte can be written, what makes room still works: of these seeds, `churn` deletes
  for (let first = 7 * 1e6 - 1, i = 0; i < 5; i++, first += 7) {
    const saver = start(folder, 'a', (event) => judge.hear(event), { count: 1, limit: 0, first });
    expect(await saver.ended, saver.lines.at(-1)).toBe(0);
  }
  expect(await judge.check(catalog, 'a')).toBe(0);
  expect(within(folder, 'folders')).toEqual([]);
});

test('two processes replace and delete the same names', async () => {
  const folder = mkdtempSync(join(root, 'store-'));
  const last = new Map<string, Event[]>();
  const savers = [0, 1].map((i) => {
    const hear = (event: Event): void => {
      if (event[0] === 'begin') return;
      const ends = last.get(event[2]) ?? [];
      ends[i] = event;
      last.set(event[2], ends);
    };
    return start(folder, 'x', hear, { count: 40 });
  });
  expect(await Promise.all(savers.map(({ ended }) => ended))).toEqual([0, 0]);
  const catalog = await Catalog.open(await FolderStore.open(folder));
  expect(await catalog.swept).toEqual({ orphans: 0, expired: 0 });
  const { checkpoints } = await catalog.listUserCheckpoints({ limit: 100, offset: 0 });
  expect(within(folder, 'folders')).toHaveLength(checkpoints.length);
  for (const { tinkerPath, checkpointId } of checkpoints) {
    const { record } = await catalog.load(tinkerPath, { optimizer: true });
    // it is what one of the two did to this name in the end
    const ends = last.get(checkpointId.slice('weights/'.length))!;
    expect(ends.map(([, what, , seed]) => `${what} ${seed}`)).toContain(`save ${record.step}`);
  }
});
