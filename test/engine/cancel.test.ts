/** Giving up: what waits is dropped as if it had never been asked for, what has begun is not torn. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { SampleCallOptions, SaveWeightsRequest } from '../../src/api/contract/backend';
import { AbortedError, NotFoundError } from '../../src/api/contract/errors';
import type { AdamParamsPayload } from '../../src/api/contract/types';
import type { Engine } from '../../src/engine/engine';
import {
  createModel,
  createSampler,
  encodedBy,
  GREEDY,
  loadFixture,
  LORA,
  openEngine,
  resolveFixture,
  sessionOf,
  type Fixture,
} from '../support/engine';

const ADAM: AdamParamsPayload = {
  learningRate: 1e-2,
  beta1: 0.9,
  beta2: 0.95,
  eps: 1e-12,
  weightDecay: 0,
  gradClipNorm: 0,
};

let engine: Engine;
let fixture: Fixture;
let log: string[];

beforeAll(async () => {
  engine = await openEngine();
  fixture = await loadFixture('untied');
  log = encodedBy(engine);
});
afterAll(() => engine?.dispose());

const pass = (modelId: string, signal?: AbortSignal) =>
  engine.forwardBackward(
    { modelId, data: fixture.batch, lossFn: 'cross_entropy', lossFnConfig: {}, forwardOnly: false },
    { signal },
  );
const update = (modelId: string, signal?: AbortSignal) =>
  engine.optimStep({ modelId, adamParams: ADAM }, { signal });

const sample = (samplerId: string, maxTokens: number, options: SampleCallOptions = {}) =>
  engine.sample(
    {
      samplerId,
      prompt: fixture.batch[0]!.tokens.slice(0, 5),
      numSamples: 1,
      params: { ...GREEDY, maxTokens, temperature: 2, seed: 3 },
      promptLogprobs: false,
      topkPromptLogprobs: 0,
    },
    options,
  );

const settled = (promises: readonly Promise<unknown>[]): Promise<string[]> =>
  Promise.all(
    promises.map((promise) =>
      promise.then(
        () => 'done',
        (error: unknown) => (error instanceof AbortedError ? 'aborted' : String(error)),
      ),
    ),
  );

const state = async (modelId: string): Promise<unknown> => [
  await engine.debugGetAdapter(modelId),
  await engine.debugGetGradients(modelId),
];

describe('a training request', () => {
  it('that waits is dropped, and those around it run as if it had not been made', async () => {
    const [run, twin] = [await createModel(engine, fixture), await createModel(engine, fixture)];
    for (const give of [() => pass, () => update]) {
      const gone = new AbortController();
      const all = [
        pass(run),
        update(run),
        give()(run, gone.signal),
        pass(run, gone.signal),
        pass(run),
        update(run),
      ];
      gone.abort();
      expect(await settled(all)).toEqual(['done', 'done', 'aborted', 'aborted', 'done', 'done']);
      await Promise.all([pass(twin), update(twin), pass(twin), update(twin)]);
      expect(await state(run)).toEqual(await state(twin));
    }
  });

  it('whose signal has fired before is never made', async () => {
    const run = await createModel(engine, fixture);
    const before = await state(run);
    const encoded = log.length;
    const all = [pass(run, AbortSignal.abort()), update(run, AbortSignal.abort())];
    expect(await settled(all)).toEqual(['aborted', 'aborted']);
    expect(log.slice(encoded)).toEqual([]);
    expect(await state(run)).toEqual(before);
  });

  it('that has reached the GPU finishes and says so', async () => {
    const [run, twin] = [await createModel(engine, fixture), await createModel(engine, fixture)];
    await pass(twin);
    const gone = new AbortController();
    const encoded = log.length;
    const started = pass(run, gone.signal);
    while (log.length === encoded) await new Promise((done) => setTimeout(done));
    gone.abort();
    expect((await started).metrics['loss:sum']).toBeGreaterThan(0);
    expect(await state(run)).toEqual(await state(twin));
  });

  it('of other kinds is dropped too', async () => {
    const run = await createModel(engine, fixture);
    const request: SaveWeightsRequest = {
      modelId: run,
      checkpointType: 'training',
      name: 'a',
      ttlSeconds: null,
      overwrite: false,
    };
    const gone = new AbortController();
    const { signal } = gone;
    const { samplers } = await engine.stats();
    const all = [
      pass(run),
      engine.saveWeights(request, { signal }),
      engine.loadWeights({ modelId: run, path: `tinker://${run}/weights/a`, optimizer: true }, { signal }),
      engine.createSampler({ kind: 'snapshot', modelId: run }, { signal }),
      pass(run),
    ];
    gone.abort();
    expect(await settled(all)).toEqual(['done', 'aborted', 'aborted', 'aborted', 'done']);
    expect((await engine.listCheckpoints(run)).checkpoints).toEqual([]);
    expect((await engine.stats()).samplers).toBe(samplers);
  });
});

describe('sampling', () => {
  it('stops after the flight under way, and the sampler goes on with the next request', async () => {
    const samplerId = await createSampler(engine, { base: 'untied' });
    const expected = await sample(samplerId, 60);
    const gone = new AbortController();
    let flights = 0;
    let encoded = 0;
    const stopped = sample(samplerId, 60, {
      signal: gone.signal,
      onTokens: () => {
        if (++flights !== 3) return;
        gone.abort(new Error('enough'));
        encoded = log.length;
      },
    });
    const next = sample(samplerId, 60);
    await expect(stopped).rejects.toThrow(AbortedError);
    await expect(stopped).rejects.toMatchObject({ cause: { message: 'enough' } });
    expect(flights).toBe(3);
    expect(await next).toEqual(expected);
    const flightsOf = (from: number, until: number): number =>
      log.slice(from, until).filter((label) => label === 'decode').length;
    const start = log.indexOf('prefill', encoded);
    expect(flightsOf(encoded, start)).toBeLessThanOrEqual(1);
  });

  it('that waits is dropped', async () => {
    const samplerId = await createSampler(engine, { base: 'untied' });
    const gone = new AbortController();
    const all = [
      sample(samplerId, 20),
      sample(samplerId, 20, { signal: gone.signal }),
      sample(samplerId, 20),
    ];
    gone.abort();
    expect(await settled(all)).toEqual(['done', 'aborted', 'done']);
  });
});

describe('a client that is unloaded', () => {
  it('rejects what waits, finishes what has begun, and frees its memory', async () => {
    const keep = await createModel(engine, fixture);
    await Promise.all([pass(keep), update(keep)]);
    const { bytes } = await engine.stats();
    const run = await createModel(engine, fixture);
    const encoded = log.length;
    const all = [pass(run), ...Array.from({ length: 6 }, () => pass(run)), update(run)];
    while (log.length === encoded) await new Promise((done) => setTimeout(done));
    const unloaded = engine.unloadModel(run);
    const results = await settled(all);
    expect(results[0]).toBe('done');
    expect(results.at(-1)).toBe('aborted');
    expect(results.filter((r) => r !== 'done' && r !== 'aborted')).toEqual([]);
    await unloaded;
    await expect(pass(run)).rejects.toThrow(NotFoundError);
    expect((await pass(keep)).metrics['loss:sum']).toBeGreaterThan(0);
    expect((await engine.stats()).bytes).toBe(bytes);
  });

  it('ends a save that has begun', async () => {
    const run = await createModel(engine, fixture);
    const request = { modelId: run, checkpointType: 'training', name: 'last', ttlSeconds: null } as const;
    const saved = engine.saveWeights({ ...request, overwrite: false });
    await engine.unloadModel(run);
    const { path } = await saved;
    expect((await engine.listCheckpoints(run)).checkpoints).toMatchObject([{ tinkerPath: path }]);
  });

  it('a sampler stops in the midst of a request', async () => {
    const samplerId = await createSampler(engine, { base: 'untied' });
    let unloaded: Promise<void> | undefined;
    const running = sample(samplerId, 60, {
      onTokens: () => void (unloaded ??= engine.unloadSampler(samplerId)),
    });
    const waiting = sample(samplerId, 5);
    expect(await settled([running, waiting])).toEqual(['aborted', 'aborted']);
    await unloaded;
  });
});

describe('an engine that is disposed', () => {
  it('makes no more clients, also not those it was asked for before, and says why', async () => {
    const own = await openEngine();
    const sessionId = await sessionOf(own);
    const { modelId } = await own.createModel({ sessionId, baseModel: 'tied', lora: LORA, userMetadata: {} });
    const all = (): Promise<unknown>[] => [
      own.createModel({ sessionId, baseModel: 'tied', lora: LORA, userMetadata: {} }),
      own.createModel({ sessionId, baseModel: 'untied', lora: LORA, userMetadata: {} }),
      own.createSampler({ kind: 'base', sessionId, baseModel: 'tied' }),
      own.createSampler({ kind: 'snapshot', modelId }),
      own.optimStep({ modelId, adamParams: ADAM }),
    ];
    const before = settled(all());
    await own.dispose();
    expect(await before).toEqual(Array(5).fill('aborted'));
    const after = [...all(), own.unloadModel(modelId), own.unloadSampler('any')];
    expect(await settled(after)).toEqual(Array(7).fill('aborted'));
  });
});

describe('loading a model', () => {
  it('stops when nobody waits for it any more, and only then', async () => {
    const stops: (AbortSignal | undefined)[] = [];
    let hold = true;
    const own = await openEngine({
      resolveModel: async (name, options) => {
        stops.push(options.signal);
        const stopped = new Promise<never>((_, reject) =>
          options.signal?.addEventListener('abort', () => reject(new AbortedError('stopped'))),
        );
        if (hold) await Promise.race([stopped, new Promise((done) => setTimeout(done, 100))]);
        return resolveFixture(name, options);
      },
    });
    const sessionId = await sessionOf(own);
    const load = (signal?: AbortSignal) =>
      own.createModel({ sessionId, baseModel: 'tied', lora: LORA, userMetadata: {} }, { signal });
    const [first, second] = [new AbortController(), new AbortController()];

    const both = [load(first.signal), load(second.signal)];
    first.abort();
    expect(await settled([both[0]!])).toEqual(['aborted']);
    expect(stops.map((stop) => stop?.aborted)).toEqual([false]);
    second.abort();
    expect(await settled([both[1]!])).toEqual(['aborted']);
    expect(stops[0]?.aborted).toBe(true);
    // whoever comes now loads it again
    hold = false;
    await load();
    expect(stops).toHaveLength(2);
    expect((await own.stats()).models).toBe(1);
    await own.dispose();
  });
});
