/** What can happen to a folder on disk: damage, other programs, processes that die at bad moments. */
import { createHash } from 'node:crypto';
import {
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { NotFoundError, StorageError, UnprocessableEntityError } from '../../../src/api/contract/errors';
import { Catalog } from '../../../src/checkpoints/catalog';
import { FolderStore } from '../../../src/checkpoints/node/folder-store';
import { rejects } from '../../checkpoints/support/check';
import { pathOf, sample, sameAdapter } from '../../checkpoints/support/samples';

let root: string;
let folder: string;
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'webtinker-folder-'));
});
beforeEach(() => {
  folder = mkdtempSync(join(root, 'store-'));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

const open = async (): Promise<Catalog> => {
  const catalog = await Catalog.open(await FolderStore.open(folder));
  await catalog.swept;
  return catalog;
};
const page = { limit: 10, offset: 0 };
const list = (part: string): string[] => readdirSync(join(folder, part));
const seconds = (ago: number): number => Date.now() / 1000 - ago;

/** A process that does not exist: larger than any id. */
const dead = (host: string): string => `${host}.4194305.1`;
const HERE = createHash('sha256').update(hostname()).digest('hex').slice(0, 12);

test('a damaged record is a typed error, costs no files, and can be deleted', async () => {
  const catalog = await open();
  const [a, b] = [sample(1), sample(2)];
  await catalog.save(a);
  await catalog.save(b);
  const name = list('records/checkpoints').find((record) => record.includes('n1'))!;
  const file = join(folder, 'records/checkpoints', name);
  const whole = readFileSync(file);
  // letters and digits of the folder's name, of sizes, of the sum itself; and an end that was never written
  const damage = [0, 3, 20, 100, whole.indexOf('"folder"') + 12, whole.length - 2].map((at) => {
    const copy = Buffer.from(whole);
    copy[at]! ^= 1;
    return copy;
  });
  for (const bytes of [...damage, whole.subarray(0, whole.length - 9), Buffer.alloc(0)]) {
    writeFileSync(file, bytes);
    const next = await open();
    expect(await next.swept).toEqual({ orphans: 0, expired: 0 });
    expect(list('folders')).toHaveLength(2);
    await rejects(
      next.load(pathOf(a), { optimizer: true }),
      UnprocessableEntityError,
      /n1.*record is damaged/,
    );
    await rejects(next.save(a), UnprocessableEntityError, /n1.*record is damaged/);
    expect((await next.listUserCheckpoints(page)).checkpoints).toHaveLength(1);
    sameAdapter(await next.load(pathOf(b), { optimizer: true }), b);
  }
  const next = await open();
  await next.delete(pathOf(a));
  await rejects(next.find(pathOf(a)), NotFoundError, /n1/);
  expect((await (await open()).listUserCheckpoints(page)).checkpoints).toHaveLength(1);
  expect(list('folders')).toHaveLength(1);
});

test('what is no checkpoint is left alone', async () => {
  const catalog = await open();
  await catalog.save(sample(1));
  mkdirSync(join(folder, 'folders', 'photos'));
  writeFileSync(join(folder, 'folders', '.DS_Store'), '');
  expect(await (await open()).swept).toEqual({ orphans: 0, expired: 0 });
  expect(list('folders')).toHaveLength(3);
});

test('a lock is taken over from the dead at once, from the living never', async () => {
  const catalog = await open();
  await catalog.save(sample(1));
  /** Locks as if by another process, whose claim is so many seconds old. */
  const lock = (number: string, holder: string, ago: number): string => {
    const claim = join(folder, 'tmp', `${holder}~${number}`);
    writeFileSync(claim, '');
    utimesSync(claim, seconds(ago), seconds(ago));
    linkSync(claim, join(folder, 'mutex', number));
    return claim;
  };
  const holders: [string, number][] = [
    [dead(HERE), 0],
    // this very process, but started at another time
    [`${HERE}.${process.pid}.0`, 0],
    // another machine's, and older than any holder gets
    [dead('0123456789ab'), 61],
  ];
  for (const [i, [holder, ago]] of holders.entries()) {
    lock(String(1000 + i * 10), holder, ago);
    const start = Date.now();
    await catalog.save(sample(2 + i));
    expect(Date.now() - start, holder).toBeLessThan(5000);
    expect(list('mutex').map(Number)).toEqual([1001 + i * 10]);
  }
  // of a store that was copied: nobody's
  writeFileSync(join(folder, 'mutex', '1500'), '');
  await catalog.save(sample(8));
  expect(list('mutex')).toEqual(['1501']);
  // another machine's, just now: waited for until it is let go
  const claim = lock('2000', dead('0123456789ab'), 0);
  let saved = false;
  const saving = catalog.save(sample(9)).then(() => (saved = true));
  await new Promise((done) => setTimeout(done, 300));
  expect(saved).toBe(false);
  rmSync(claim);
  await saving;
});

test('what processes of other machines write is left to them for a day', async () => {
  const store = await FolderStore.open(folder);
  const ids = await Promise.all(
    [dead(HERE), dead('0123456789ab'), dead('0123456789ab')].map(async (writer, i) => {
      const orphan = await store.createFolder();
      await orphan.close();
      const mark = join(folder, 'writing', `${orphan.id}~${writer}`);
      writeFileSync(mark, '');
      utimesSync(mark, seconds(i * 80_000), seconds(i * 80_000));
      return orphan.id;
    }),
  );
  writeFileSync(join(folder, 'tmp', `${dead(HERE)}~x`), 'half a record');
  expect(await (await open()).swept).toEqual({ orphans: 2, expired: 0 });
  expect(list('folders')).toEqual([ids[1]]);
  expect(list('tmp')).toEqual([]);
  expect(list('writing')).toHaveLength(1);
});

test('a place that cannot be written is a typed error', async () => {
  const file = join(folder, 'file');
  writeFileSync(file, '');
  const error = await rejects(FolderStore.open(join(file, 'store')), StorageError, /cannot open the folder/);
  expect(error.cause).toMatchObject({ code: 'ENOTDIR' });
  const catalog = await open();
  rmSync(folder, { recursive: true });
  await rejects(catalog.save(sample(1)), StorageError, /cannot make a folder/);
});
