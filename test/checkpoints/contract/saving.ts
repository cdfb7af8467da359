/** Saving, loading, listing, and what is set on checkpoints. */
import { BadRequestError, ConflictError, NotFoundError } from '../../../src/api/contract/errors';
import { Catalog } from '../../../src/checkpoints/catalog';
import { equal, ok, rejects } from '../support/check';
import { pathOf, RUN, sample, sameAdapter } from '../support/samples';
import { names, page, type StoreCases } from './cases';

export const saving: StoreCases = {
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

  'forgets old runs that did nothing, and old sessions without runs': async (open) => {
    const store = await open();
    const start = Date.parse('2030-01-01T00:00:00Z');
    let now = start;
    const filed = await Catalog.open(store, { now: () => now });
    const [created, later] = [new Date(start).toISOString(), new Date(start + 1).toISOString()];
    const { adapter } = sample(0);
    const run = (id: string, sessionId: string, lastRequestTime: string) =>
      filed.putRun({
        trainingRunId: id,
        sessionId,
        adapter,
        userMetadata: {},
        created,
        lastRequestTime,
      });
    for (const id of ['empty', 'idle', 'asked', 'saved'])
      await filed.putSession({ sessionId: id, userMetadata: {}, created });
    await run('idle-run', 'idle', created);
    await run('asked-run', 'asked', later);
    await run('saved-run', 'saved', created);
    await filed.save(sample(1, { trainingRunId: 'saved-run' }));
    const left = async (): Promise<unknown> => {
      const next = await Catalog.open(await open(), { now: () => now });
      await next.swept;
      const runs = await next.listRuns({ limit: 9, offset: 0 });
      return [
        runs.trainingRuns.map(({ trainingRunId }) => trainingRunId).sort(),
        (await next.listSessions({ limit: 9, offset: 0 })).sort(),
      ];
    };
    const week = 7 * 24 * 3600 * 1000;
    now = start + week;
    const all = [
      ['asked-run', 'idle-run', 'saved-run'],
      ['asked', 'empty', 'idle', 'saved'],
    ];
    equal(await left(), all, 'after a week');
    now = start + week + 1;
    equal(
      await left(),
      [
        ['asked-run', 'saved-run'],
        ['asked', 'saved'],
      ],
      'later',
    );
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
