/** What every store must do, by itself and under a catalog; run on each kind where that lives. */
import {
  BadRequestError,
  ConflictError,
  NotFoundError,
  StorageFullError,
  UnprocessableEntityError,
} from '../../src/api/contract/errors';
import { Catalog } from '../../src/checkpoints/catalog';
import type { CheckpointRecord } from '../../src/checkpoints/catalog-types';
import type { JsonRecord, Store } from '../../src/checkpoints/store';
import { writeSafetensors, type HostTensor } from '../../src/models/safetensors';
import { equal, ok, rejects, sameBits } from './support/check';
import { FullStore } from './support/full-store';
import { pathOf, RUN, sample, sameAdapter } from './support/samples';

/** Of one case: handles on one and the same store, as a second tab or the next start has them. */
export type OpenStore = () => Promise<Store>;

const bytesOf = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text);
const keyOf = (path: string): string => path.slice('tinker://'.length);
const page = { limit: 100, offset: 0 };
const names = (list: { checkpoints: readonly { checkpointId: string }[] }): string[] =>
  list.checkpoints.map(({ checkpointId }) => checkpointId);

/** Puts other files in place of a checkpoint's: undefined removes one. */
async function tamper(
  store: Store,
  path: string,
  change: (name: string, bytes: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer> | undefined,
  changeRecord: (record: CheckpointRecord) => Partial<CheckpointRecord> = () => ({}),
): Promise<void> {
  const record = (await store.get('checkpoints', keyOf(path))) as unknown as CheckpointRecord;
  const writer = await store.createFolder();
  for (const { name } of record.files) {
    const blob = await store.readFile(record.folder, name);
    const bytes = change(name, new Uint8Array(await blob!.arrayBuffer()));
    if (bytes) await writer.write(name, bytes);
  }
  await store.update('checkpoints', keyOf(path), (current) => ({
    ...current,
    folder: writer.id,
    ...changeRecord(record),
  }));
  await writer.close();
}

/** The checksum of a changed file, as if it had been saved so. */
async function withSum(
  record: CheckpointRecord,
  name: string,
  bytes: Uint8Array<ArrayBuffer>,
): Promise<JsonRecord> {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  const sha256 = Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
  const files = record.files.map((file) =>
    file.name === name ? { name, bytes: bytes.length, sha256 } : file,
  );
  return { ...record, files };
}

/** A file of a checkpoint replaced by another that is rightly recorded. */
async function replaceFile(
  store: Store,
  path: string,
  name: string,
  bytes: Uint8Array<ArrayBuffer>,
): Promise<void> {
  const record = (await store.get('checkpoints', keyOf(path))) as unknown as CheckpointRecord;
  const changed = await withSum(record, name, bytes);
  await tamper(
    store,
    path,
    (file, old) => (file === name ? bytes : old),
    () => ({ files: changed.files as CheckpointRecord['files'] }),
  );
}

const records: Record<string, (open: OpenStore) => Promise<void>> = {
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

const saving: Record<string, (open: OpenStore) => Promise<void>> = {
  'gives back, after reopening, bit for bit what was saved': async (open) => {
    const first = await Catalog.open(await open());
    const training = sample(1);
    const sampler = sample(2, { checkpointType: 'sampler', name: 'ünï 😀%2F' });
    const record = await first.save(training);
    await first.save(sampler);
    await first.close();
    const again = await Catalog.open(await open());
    equal(await again.find(pathOf(training)), record, 'record');
    sameAdapter(await again.load(pathOf(training), { optimizer: true }), training);
    const without = await again.load(pathOf(training), { optimizer: false });
    equal(without.optimizer, null, 'optimizer that nobody asked for');
    sameAdapter(without, training);
    sameAdapter(await again.load(pathOf(sampler), { optimizer: false }), sampler);
    await rejects(again.load(pathOf(sampler), { optimizer: true }), BadRequestError, /no optimizer state/);
  },

  'refuses a name that is taken, and replaces it with overwrite': async (open) => {
    const store = await open();
    const catalog = await Catalog.open(store);
    await catalog.save(sample(1, { name: 'a' }));
    await rejects(catalog.save(sample(2, { name: 'a' })), ConflictError, /weights\/a exists/);
    // two at once, of which neither can see the other coming
    const both = await Promise.allSettled([3, 4].map((seed) => catalog.save(sample(seed, { name: 'b' }))));
    equal(both.map(({ status }) => status).sort(), ['fulfilled', 'rejected'], 'two of one name');
    const second = sample(5, { name: 'a', overwrite: true, ttlSeconds: 1000 });
    await catalog.setPublic(pathOf(second), true);
    const record = await catalog.save(second);
    ok(!record.public && record.expiresAt !== null, 'flags are those of the new one');
    sameAdapter(await catalog.load(pathOf(second), { optimizer: true }), second);
    equal((await store.listFolders()).length, 2, 'folders: the replaced and the refused are gone');
    // the same name as sampler weights is another checkpoint
    await catalog.save(sample(6, { name: 'a', checkpointType: 'sampler' }));
  },

  'refuses names, times and paths that cannot be': async (open) => {
    const catalog = await Catalog.open(await open());
    const bad = ['', 'a/b', '../a', 'a..b', '..', '.', 'a\\b', 'a\u0000', 'a\nb', '\ud800', 'x'.repeat(201)];
    for (const name of bad) await rejects(catalog.save(sample(1, { name })), BadRequestError, /^name: /);
    for (const ttlSeconds of [0, -1, NaN, Infinity, 1e300]) {
      await rejects(catalog.save(sample(1, { ttlSeconds })), BadRequestError, /^ttl_seconds: /);
    }
    await catalog.save(sample(1, { name: 'x'.repeat(200) }));
    const paths = [
      '',
      'a',
      'http://r/weights/a',
      'tinker://r/a',
      'tinker://r/other/a',
      'tinker:///weights/a',
    ];
    paths.push(
      'tinker://r/weights/a/b',
      'tinker://r/weights/',
      'tinker://r/weights/..',
      'tinker://../weights/a',
    );
    for (const path of paths) {
      await rejects(catalog.find(path), BadRequestError, /path/);
      await rejects(catalog.delete(path), BadRequestError, /path/);
    }
    equal((await catalog.listUserCheckpoints(page)).cursor!.totalCount, 1, 'checkpoints');
  },

  'knows nothing of what is not there': async (open) => {
    const catalog = await Catalog.open(await open());
    const path = `tinker://${RUN}/weights/none`;
    await rejects(catalog.find(path), NotFoundError, /none/);
    await rejects(catalog.load(path, { optimizer: false }), NotFoundError, /none/);
    await rejects(catalog.delete(path), NotFoundError, /none/);
    await rejects(catalog.setPublic(path, true), NotFoundError, /none/);
    await rejects(catalog.setTtl(path, 1), NotFoundError, /none/);
    await rejects(catalog.archive(path), NotFoundError, /none/);
    await rejects(catalog.getRun('r'), NotFoundError, /'r'/);
    await rejects(catalog.listCheckpoints('r'), NotFoundError, /'r'/);
    await rejects(catalog.getSession('s'), NotFoundError, /'s'/);
    equal(
      await catalog.usage().then(({ bytes, runs }) => ({ bytes, runs })),
      { bytes: 0, runs: [] },
      'usage',
    );
  },

  'deletes, publishes, and sets times to live': async (open) => {
    const store = await open();
    const catalog = await Catalog.open(store);
    const a = sample(1);
    await catalog.save(a);
    await rejects(catalog.setPublic(pathOf(a), false), ConflictError, /private already/);
    await catalog.setPublic(pathOf(a), true);
    await rejects(catalog.setPublic(pathOf(a), true), ConflictError, /public already/);
    equal((await catalog.find(pathOf(a))).public, true, 'public');
    await catalog.setPublic(pathOf(a), false);
    await rejects(catalog.setTtl(pathOf(a), 0), BadRequestError, /^ttl_seconds/);
    await catalog.setTtl(pathOf(a), 3600);
    ok(
      Date.parse((await catalog.find(pathOf(a))).expiresAt!) > Date.now() + 3_500_000,
      'it expires in an hour',
    );
    await catalog.setTtl(pathOf(a), null);
    equal((await catalog.find(pathOf(a))).expiresAt, null, 'expiry');
    sameAdapter(await catalog.load(pathOf(a), { optimizer: true }), a);
    await catalog.delete(pathOf(a));
    await rejects(catalog.find(pathOf(a)), NotFoundError, /n1/);
    await rejects(catalog.delete(pathOf(a)), NotFoundError, /n1/);
    equal(await store.listFolders(), [], 'folders');
  },

  'hides what has expired at once, and removes it at the next start': async (open) => {
    let now = Date.parse('2030-01-01T00:00:00Z');
    const store = await open();
    const catalog = await Catalog.open(store, { now: () => now });
    const [brief, long, kept] = [sample(1, { ttlSeconds: 10 }), sample(2, { ttlSeconds: 100 }), sample(3)];
    for (const each of [brief, long, kept]) await catalog.save(each);
    now += 9_999;
    equal(
      names(await catalog.listUserCheckpoints(page)),
      ['weights/n3', 'weights/n2', 'weights/n1'],
      'before',
    );
    now += 1;
    await rejects(catalog.find(pathOf(brief)), NotFoundError, /n1/);
    await rejects(catalog.setTtl(pathOf(brief), null), NotFoundError, /n1/);
    equal(names(await catalog.listUserCheckpoints(page)), ['weights/n3', 'weights/n2'], 'after');
    const folders = (await store.listFolders()).length;
    equal(folders, 3, 'folders');
    // its name is free
    const again = sample(4, { name: brief.name });
    await catalog.save(again);
    equal((await store.listFolders()).length, folders, 'folders after its name was taken');
    now += 1_000_000;
    const next = await Catalog.open(await open(), { now: () => now });
    equal(await next.swept, { orphans: 0, expired: 1 }, 'swept');
    equal((await store.listFolders()).length, 2, 'folders after the next start');
    sameAdapter(await next.load(pathOf(again), { optimizer: true }), again);
    sameAdapter(await next.load(pathOf(kept), { optimizer: true }), kept);
  },

  'lists newest first, in pages, and sums up what is used': async (open) => {
    const now = Date.parse('2030-01-01T00:00:00Z');
    const catalog = await Catalog.open(await open(), { now: () => now });
    const { adapter } = sample(0);
    for (const i of [0, 1, 2]) {
      const created = new Date(now + i).toISOString();
      const record = { userMetadata: { i: String(i) }, created };
      await catalog.putSession({ sessionId: `s${i}`, ...record });
      await catalog.putRun({
        trainingRunId: `r${i}`,
        sessionId: 's1',
        adapter,
        lastRequestTime: created,
        ...record,
      });
    }
    // within one millisecond of the clock
    for (const [i, run] of ['r0', 'r2', 'r0', 'r0', 'r2'].entries()) {
      const checkpointType = i === 3 ? 'sampler' : 'training';
      await catalog.save(sample(i, { trainingRunId: run, checkpointType }));
    }
    const all = await catalog.listUserCheckpoints(page);
    equal(names(all), ['weights/n4', 'sampler_weights/n3', 'weights/n2', 'weights/n1', 'weights/n0'], 'all');
    equal(new Set(all.checkpoints.map(({ time }) => time)).size, 5, 'times');
    const middle = await catalog.listUserCheckpoints({ limit: 2, offset: 1 });
    equal(names(middle), ['sampler_weights/n3', 'weights/n2'], 'a page');
    equal(middle.cursor, { offset: 1, limit: 2, totalCount: 5 }, 'its cursor');
    equal(names(await catalog.listUserCheckpoints({ limit: 2, offset: 9 })), [], 'a page past the end');
    await rejects(catalog.listUserCheckpoints({ limit: -1, offset: 0 }), BadRequestError, /^limit/);
    await rejects(catalog.listRuns({ limit: 1, offset: 0.5 }), BadRequestError, /^offset/);
    const ofRun = await catalog.listCheckpoints('r0');
    equal(names(ofRun), ['sampler_weights/n3', 'weights/n2', 'weights/n0'], 'of one run');
    equal(ofRun.cursor, null, 'cursor of one run');
    equal(await catalog.listCheckpoints('r1'), { checkpoints: [], cursor: null }, 'of a run without any');

    const runs = await catalog.listRuns(page);
    equal(
      runs.trainingRuns.map((run) => run.trainingRunId),
      ['r2', 'r1', 'r0'],
      'runs',
    );
    const [r2, r1, r0] = runs.trainingRuns;
    equal(r0!.lastCheckpoint!.tinkerPath, 'tinker://r0/weights/n2', 'last checkpoint');
    equal(r0!.lastSamplerCheckpoint!.tinkerPath, 'tinker://r0/sampler_weights/n3', 'last sampler checkpoint');
    equal(
      [r1!.lastCheckpoint, r1!.lastSamplerCheckpoint, r2!.lastSamplerCheckpoint],
      [null, null, null],
      'none',
    );
    equal(await catalog.getRun('r0'), r0, 'one run');
    equal([r0!.loraRank, r0!.baseModel, r0!.userMetadata], [2, 'webtinker/pocket', { i: '0' }], 'what it is');
    equal(await catalog.listSessions({ limit: 2, offset: 0 }), ['s2', 's1'], 'sessions');
    equal(await catalog.runsOfSession('s1'), ['r0', 'r1', 'r2'], 'runs of a session');
    equal(await catalog.runsOfSession('s2'), [], 'runs of a session without any');

    const size = (path: string): number => all.checkpoints.find((c) => c.tinkerPath === path)!.sizeBytes;
    const usage = await catalog.usage();
    const sums = {
      r0:
        size('tinker://r0/weights/n0') +
        size('tinker://r0/weights/n2') +
        size('tinker://r0/sampler_weights/n3'),
      r2: 2 * size('tinker://r2/weights/n1'),
    };
    equal(
      usage.runs,
      [
        { trainingRunId: 'r0', bytes: sums.r0 },
        { trainingRunId: 'r2', bytes: sums.r2 },
      ],
      'bytes of runs',
    );
    equal(usage.bytes, sums.r0 + sums.r2, 'bytes');
  },
};

const faults: Record<string, (open: OpenStore) => Promise<void>> = {
  'reclaims what no record names, but not what is being written': async (open) => {
    const store = await open();
    const catalog = await Catalog.open(store);
    const kept = sample(1);
    await catalog.save(kept);
    const orphan = await store.createFolder();
    await orphan.write('adapter_model.safetensors', bytesOf('half a'));
    await orphan.close();
    const live = await store.createFolder();
    await live.write('adapter_model.safetensors', bytesOf('half a'));
    const next = await Catalog.open(await open());
    equal(await next.swept, { orphans: 1, expired: 0 }, 'swept');
    equal(await store.readFile(orphan.id, 'adapter_model.safetensors'), undefined, 'the orphan');
    ok(await store.readFile(live.id, 'adapter_model.safetensors'), 'what is being written is left alone');
    await live.discard();
    sameAdapter(await next.load(pathOf(kept), { optimizer: true }), kept);
  },

  'gives a typed error for damaged files, and leaves the others alone': async (open) => {
    const store = await open();
    const catalog = await Catalog.open(store);
    const [victim, other] = [sample(1), sample(2)];
    const path = pathOf(victim);
    await catalog.save(other);
    const record = await catalog.save(victim);
    const load = (): Promise<unknown> => catalog.load(path, { optimizer: true });
    for (const { name, bytes } of record.files) {
      const said = new RegExp(`weights/n1: ${name} `);
      const damage: [string, (b: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer> | undefined][] = [
        ['missing', () => undefined],
        ['empty', () => new Uint8Array()],
        ['truncated', (b) => b.subarray(0, bytes - 1)],
        ['longer', (b) => new Uint8Array([...b, 0])],
      ];
      for (const bit of [0, bytes * 4, bytes * 8 - 1]) {
        damage.push([
          `bit ${bit}`,
          (b) => b.map((byte, i) => (i === bit >> 3 ? byte ^ (1 << (bit & 7)) : byte)),
        ]);
      }
      for (const [what, change] of damage) {
        await tamper(store, path, (file, b) => (file === name ? change(b) : b));
        const error = await rejects(load(), UnprocessableEntityError, said);
        equal(error.statusCode, 422, what);
        await catalog.save({ ...victim, overwrite: true });
      }
    }
    sameAdapter(await catalog.load(pathOf(other), { optimizer: true }), other);
  },

  'gives a typed error for files that are whole and wrong': async (open) => {
    const store = await open();
    const catalog = await Catalog.open(store);
    const victim = sample(1);
    const path = pathOf(victim);
    const tensor = (...shape: number[]): HostTensor => ({
      shape,
      data: new Float32Array(shape.reduce((n, s) => n * s, 1)),
    });
    const file = (tensors: Record<string, HostTensor>, step?: string): Uint8Array<ArrayBuffer> =>
      new Uint8Array(writeSafetensors(new Map(Object.entries(tensors)), step === undefined ? {} : { step }));
    const q = 'base_model.model.model.layers.0.self_attn.q_proj';
    const header = (json: string, length = json.length): Uint8Array<ArrayBuffer> => {
      const bytes = new Uint8Array([...new Uint8Array(8), ...bytesOf(json)]);
      new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
      return bytes;
    };
    const adapters: [RegExp, Uint8Array<ArrayBuffer>][] = [
      [/rank/, file({ [`${q}.lora_A.weight`]: tensor(3, 6), [`${q}.lora_B.weight`]: tensor(6, 3) })],
      [/rank/, file({ [`${q}.lora_A.weight`]: tensor(2, 6), [`${q}.lora_B.weight`]: tensor(6, 4) })],
      [/without/, file({ [`${q}.lora_A.weight`]: tensor(2, 6) })],
      [/no matrix/, file({ [`${q}.lora_A.weight`]: tensor(2, 6, 1), [`${q}.lora_B.weight`]: tensor(6, 2) })],
      [/no LoRA matrix/, file({ '../../etc/passwd': tensor(2, 6) })],
      [/no LoRA matrix/, file({ __proto__x: tensor(2, 6) })],
      [/holds no LoRA/, file({})],
      [/safetensors/, bytesOf('<html>')],
      [/safetensors/, header('{}', 2 ** 52)],
      [/safetensors/, header('{"a":')],
      [/safetensors/, header('{"a":{"dtype":"F32","shape":[1e9,1e9],"data_offsets":[0,4]}}')],
      [/safetensors/, header('{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}')],
      [/safetensors/, header('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}')],
    ];
    for (const [reason, bytes] of adapters) {
      await catalog.save({ ...victim, overwrite: true });
      await replaceFile(store, path, 'adapter_model.safetensors', bytes);
      const said = new RegExp(`weights/n1: adapter_model.safetensors .*${reason.source}`);
      await rejects(catalog.load(path, { optimizer: false }), UnprocessableEntityError, said);
    }
    const optimizers: [RegExp, Uint8Array<ArrayBuffer>][] = [
      [/no step count/, file({})],
      [/no step count/, file({}, '-1')],
      [/no step count/, file({}, 'x')],
      [/lacks 'm\./, file({}, '1')],
      [/of shape/, file({ 'm.layers.0.self_attn.q_proj.lora_A': tensor(1, 12) }, '1')],
    ];
    for (const [reason, bytes] of optimizers) {
      await catalog.save({ ...victim, overwrite: true });
      await replaceFile(store, path, 'optimizer.safetensors', bytes);
      const said = new RegExp(`weights/n1: optimizer.safetensors .*${reason.source}`);
      await rejects(catalog.load(path, { optimizer: true }), UnprocessableEntityError, said);
      sameAdapter(await catalog.load(path, { optimizer: false }), victim);
    }
    // records are not believed either
    for (const folder of ['..', '../..', '/', 'a/../..', '']) {
      await store.update('checkpoints', keyOf(path), (current) => ({ ...current, folder }));
      await rejects(catalog.load(path, { optimizer: false }), UnprocessableEntityError, /./);
    }
    await store.update('checkpoints', keyOf(path), (current) => ({ ...current, format: 2 }));
    await rejects(catalog.load(path, { optimizer: false }), UnprocessableEntityError, /format 2/);
    await rejects(catalog.archive(path), UnprocessableEntityError, /format 2/);
  },

  'gives a typed error when full, at whichever byte, and leaves what there was': async (open) => {
    const store = await open();
    const catalog = await Catalog.open(store);
    const old = sample(1, { name: 'a' });
    const { files } = await catalog.save(old);
    const folders = await store.listFolders();
    // a byte before, at, and after the end of each file, and within it; the last is the record's
    const ends = files.map((_, i) => files.slice(0, i + 1).reduce((n, { bytes }) => n + bytes, 0));
    const rooms = [0, 1, ...ends.flatMap((end, i) => [end - (files[i]!.bytes >> 1), end - 1, end, end + 1])];
    for (const room of rooms) {
      const full = await Catalog.open(new FullStore(store, room).store);
      await rejects(full.save(sample(2, { name: 'b' })), StorageFullError, /room/);
      await rejects(full.save(sample(2, { name: 'a', overwrite: true })), StorageFullError, /room/);
      equal(await store.listFolders(), folders, `folders with room for ${room} bytes`);
      equal(
        names(await catalog.listUserCheckpoints(page)),
        ['weights/a'],
        `checkpoints with room for ${room} bytes`,
      );
      sameAdapter(await catalog.load(pathOf(old), { optimizer: true }), old);
    }
    const counted = new FullStore(store, Infinity);
    await (await Catalog.open(counted.store)).save(sample(2, { name: 'b' }));
    ok(counted.written > ends.at(-1)!, 'the record was counted as well');
    await (await Catalog.open(new FullStore(store, counted.written).store)).save(sample(2, { name: 'c' }));
  },
};

const together: Record<string, (open: OpenStore) => Promise<void>> = {
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

const archives: Record<string, (open: OpenStore) => Promise<void>> = {
  'packs an adapter, and takes it in again as a run of its own': async (open) => {
    const catalog = await Catalog.open(await open());
    const saved = sample(1);
    await catalog.save(saved);
    const archive = await catalog.archive(pathOf(saved));
    ok(archive.size % 512 === 0, 'a tar is made of blocks');
    const imported = await catalog.import({ sessionId: 's', source: archive, name: 'in', baseModel: null });
    const record = await catalog.find(imported.tinkerPath);
    ok(record.trainingRunId !== RUN, 'it is of another run');
    equal(record.checkpointType, 'training', 'type');
    const loaded = await catalog.load(imported.tinkerPath, { optimizer: false });
    sameAdapter(loaded, { ...saved, optimizer: null });
    await rejects(
      catalog.load(imported.tinkerPath, { optimizer: true }),
      BadRequestError,
      /no optimizer state/,
    );
    equal(
      (await catalog.listRuns(page)).trainingRuns.map((run) => run.trainingRunId),
      [record.trainingRunId],
      'runs',
    );
    equal(await catalog.runsOfSession('s'), [record.trainingRunId], 'runs of the session');
    // nothing of it shares memory with what was saved
    saved.matrices.get('lm_head.lora_A')!.data.fill(0);
    const again = await catalog.load(imported.tinkerPath, { optimizer: false });
    sameBits(
      again.matrices.get('lm_head.lora_A')!.data,
      sample(1).matrices.get('lm_head.lora_A')!.data,
      'lm_head',
    );
    // a run without its checkpoint is not left behind
    await rejects(
      catalog.import({ sessionId: 's', source: archive, name: 'a/b', baseModel: null }),
      BadRequestError,
      /name/,
    );
    equal((await catalog.listRuns(page)).cursor.totalCount, 1, 'runs');
  },
};

/** By what each says. */
export const storeContract: Readonly<Record<string, (open: OpenStore) => Promise<void>>> = {
  ...records,
  ...saving,
  ...faults,
  ...together,
  ...archives,
};
