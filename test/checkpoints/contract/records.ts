/** Records and folders, by themselves. */
import { ConflictError } from '../../../src/api/contract/errors';
import type { Store } from '../../../src/checkpoints/store';
import { equal, ok, rejects } from '../support/check';
import { bytesOf, type StoreCases } from './cases';

export const records: StoreCases = {
  'keeps records by key, and tells keys apart': async (open) => {
    const store = await open();
    const keys = [
      'a',
      'A',
      'a/b',
      'a/c',
      'a.b',
      'é',
      'e\u0301',
      'con',
      'nul.txt',
      'a:b*?"<>|\\',
      ' ',
      '😀',
      '%41',
    ];
    keys.push(
      'x'.repeat(400),
      'x'.repeat(401),
      'X'.repeat(400),
      `${'😀'.repeat(90)}1`,
      `${'😀'.repeat(90)}2`,
    );
    for (const [i, key] of keys.entries()) await store.update('runs', key, () => ({ i, key }));
    const again = await open();
    for (const [i, key] of keys.entries()) equal(await again.get('runs', key), { i, key }, key);
    equal(await again.get('runs', 'b'), undefined, 'a key that nobody used');
    equal(await again.get('sessions', 'a'), undefined, 'a key of another collection');
    const { records: all, damaged } = await again.list('runs');
    equal([...all.keys()], [...keys].sort(), 'all keys, sorted');
    equal(damaged, [], 'damaged');
    equal([...(await again.list('runs', 'a/')).records.keys()], ['a/b', 'a/c'], 'keys by prefix');
    equal((await again.list('runs', 'x'.repeat(400))).records.size, 2, 'long keys by prefix');
    equal((await again.list('runs', 'zz')).records.size, 0, 'no such prefix');
    await again.update('runs', 'a', (current) => ({ ...current, i: 99 }));
    equal(await store.get('runs', 'a'), { i: 99, key: 'a' }, 'a record that was replaced');
    await again.update('runs', 'a/b', () => undefined);
    await again.remove('runs', 'a/c');
    await again.remove('runs', 'a/c');
    equal([...(await store.list('runs', 'a/')).records.keys()], [], 'after removal');
  },

  'changes nothing when the change throws': async (open) => {
    const store = await open();
    await store.update('runs', 'a', () => ({ x: 1 }));
    const refuse = (): never => {
      throw new ConflictError('no');
    };
    await rejects(store.update('runs', 'a', refuse), ConflictError, /^no$/);
    await rejects(store.update('runs', 'b', refuse), ConflictError, /^no$/);
    equal([...(await store.list('runs')).records], [['a', { x: 1 }]], 'records');
  },

  'loses no change of two handles on one record': async (open) => {
    const stores = await Promise.all([open(), open(), open()]);
    const turns = Array.from({ length: 25 }, (_, i) => stores[i % stores.length]!);
    const increment = (store: Store): Promise<void> =>
      store.update('runs', 'n', (current) => ({ n: Number(current?.n ?? 0) + 1 }));
    await Promise.all(turns.map(increment));
    equal(await stores[0].get('runs', 'n'), { n: 25 }, 'increments');
  },

  'keeps files in folders, and knows which are being written': async (open) => {
    const [store, other] = await Promise.all([open(), open()]);
    const writer = await store.createFolder();
    const second = await store.createFolder();
    ok(writer.id !== second.id, 'two folders have two names');
    const large = new Uint8Array(3_000_001).map((_, i) => i * 7);
    await writer.write('large.bin', large);
    await writer.write('empty', new Uint8Array());
    equal(await other.listFolders(), [], 'folders while they are written');
    equal(await store.readFile(writer.id, 'none'), undefined, 'no such file');
    equal(await store.readFile('00000000-0000-4000-8000-000000000000', 'none'), undefined, 'no such folder');
    await second.write('x', bytesOf('x'));
    await second.discard();
    await writer.close();
    equal(await other.listFolders(), [writer.id], 'folders after');
    const back = new Uint8Array(await (await other.readFile(writer.id, 'large.bin'))!.arrayBuffer());
    equal(back.length, large.length, 'size');
    ok(
      back.every((byte, i) => byte === large[i]),
      'the bytes are the same',
    );
    equal((await other.readFile(writer.id, 'empty'))!.size, 0, 'size of an empty file');
    await other.removeFolder(writer.id);
    await store.removeFolder(writer.id);
    equal(await store.listFolders(), [], 'folders after removal');
    equal(await store.readFile(writer.id, 'large.bin'), undefined, 'a file that was removed');
  },
};
