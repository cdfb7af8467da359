/** The GPU goes away in mid-run: nothing that was reported done is undone, and what was under way is done. */
import { afterEach, describe, expect, it } from 'vitest';
import { DeviceLostError, DeviceUnavailableError } from '../../src/api/contract/errors';
import type { SampledTokensPayload, SamplePayload } from '../../src/api/contract/types';
import { MemoryStore } from '../../src/checkpoints/memory-store';
import type { DeviceOpener } from '../../src/engine/devices/device';
import { webgpuOpener } from '../../src/engine/devices/webgpu/webgpu-device';
import type { Engine } from '../../src/engine/engine';
import {
  createModel,
  createSampler,
  crossEntropy,
  gpuOf,
  GREEDY,
  loadFixture,
  openEngine,
  sessionOf,
  type Fixture,
  type OpenOptions,
} from '../support/engine';

const ADAM = { learningRate: 3e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0.01, gradClipNorm: 1 };

const opened: Engine[] = [];
afterEach(() => Promise.all(opened.splice(0).map((engine) => engine.dispose())));

async function open(options: OpenOptions = {}): Promise<Engine> {
  const engine = await openEngine(options);
  opened.push(engine);
  return engine;
}

const destroy = (engine: Engine): void => gpuOf(engine).device.destroy();

const later = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));

interface Run {
  readonly losses: readonly number[];
  readonly norms: readonly number[];
  readonly adapter: ReadonlyMap<string, Float32Array>;
  readonly samples: readonly SamplePayload[];
}

/** Trains, several requests in flight at a time, and samples from what came of it along the way. */
async function train(engine: Engine, { batch }: Fixture, modelId: string, steps: number): Promise<Run> {
  const losses: Promise<number>[] = [];
  const norms: Promise<number>[] = [];
  const samples: Promise<SamplePayload>[] = [];
  const draw = async (sampler: Promise<string>, seed: number): Promise<SamplePayload> => {
    const request = {
      samplerId: await sampler,
      prompt: batch[0]!.tokens.slice(0, 5),
      numSamples: 3,
      params: { ...GREEDY, temperature: 1, seed, maxTokens: 10 },
      promptLogprobs: true,
      topkPromptLogprobs: 2,
    };
    for (;;) {
      try {
        return await engine.sample(request);
      } catch (error) {
        // that of a request that was under way at one loss after the other: it says that it may be repeated
        if (!(error instanceof DeviceLostError && error.retryable)) throw error;
      }
    }
  };
  for (let i = 0; i < steps; i++) {
    for (const part of [batch.slice(0, 1), batch.slice(1)]) {
      losses.push(crossEntropy(engine, modelId, part).then(({ loss }) => loss));
    }
    norms.push(
      engine.optimStep({ modelId, adamParams: ADAM }).then(({ metrics }) => metrics['grad_norm:mean']!),
    );
    if (i % 3 === 0) samples.push(draw(createSampler(engine, { modelId }), i));
    // never more than two steps ahead
    if (i > 0) await norms[i - 1];
  }
  return {
    losses: await Promise.all(losses),
    norms: await Promise.all(norms),
    samples: await Promise.all(samples),
    adapter: await engine.debugGetAdapter(modelId),
  };
}

describe('a GPU that is destroyed', () => {
  it('at random moments of training and sampling changes nothing of what comes out', async () => {
    const fixture = await loadFixture('grouped-odd');
    const steps = 12;
    const calm = await open();
    const expected = await train(calm, fixture, await createModel(calm, fixture), steps);

    const engine = await open();
    const modelId = await createModel(engine, fixture);
    let state = 11;
    const random = (): number => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
    let over = false;
    let destroyed = 0;
    let answered = 0;
    const storm = (async () => {
      while (!over) {
        // something is done between losses, or else the device would be given up
        const wanted = answered + 3 + 8 * random();
        while (answered < wanted && !over) await later(1);
        for (let again = true; again && !over; again = random() < 0.3) {
          await later(80 * random());
          destroy(engine);
          destroyed++;
        }
      }
    })();
    const forwardBackward = engine.forwardBackward.bind(engine);
    engine.forwardBackward = (...args) => forwardBackward(...args).finally(() => answered++);
    const run = await train(engine, fixture, modelId, steps).finally(() => (over = true));
    await storm;
    expect(run).toEqual(expected);
    const { recoveries, device } = await engine.stats();
    expect(destroyed).toBeGreaterThan(2);
    // one that is destroyed while the engine recovers is part of the same recovery
    expect(recoveries.length).toBeGreaterThan(0);
    expect(recoveries.length).toBeLessThanOrEqual(destroyed);
    for (const { from, to, reason } of recoveries) {
      expect([from, to]).toEqual(['webgpu', 'webgpu']);
      expect(reason).toMatch(/the GPU was lost/);
    }
    expect(recoveries.some(({ replayed }) => replayed > 0)).toBe(true);
    expect(device.reason).toBe("device: 'webgpu' was asked for");
  });

  it('keeps gradients whose requests were answered, and samplers made before', async () => {
    const fixture = await loadFixture('tied');
    const twin = async (disturb: (engine: Engine) => void): Promise<unknown[]> => {
      const engine = await open();
      const modelId = await createModel(engine, fixture);
      const before = await createSampler(engine, { modelId });
      const base = await createSampler(engine, { base: 'tied' });
      await crossEntropy(engine, modelId, fixture.batch);
      await crossEntropy(engine, modelId, fixture.batch.slice(1));
      disturb(engine);
      const gradients = await engine.debugGetGradients(modelId);
      await engine.optimStep({ modelId, adamParams: ADAM });
      disturb(engine);
      const draw = (samplerId: string) =>
        engine.sample({
          samplerId,
          prompt: [1, 2, 3],
          numSamples: 1,
          params: GREEDY,
          promptLogprobs: true,
          topkPromptLogprobs: 0,
        });
      return [gradients, await draw(before), await draw(base), await engine.debugGetAdapter(modelId)];
    };
    expect(await twin(destroy)).toEqual(await twin(() => undefined));
  });

  it('keeps the gradients of many requests as they are, and not the requests', async () => {
    const fixture = await loadFixture('tied');
    const twin = async (disturb: (engine: Engine) => void): Promise<unknown[]> => {
      const engine = await open();
      const modelId = await createModel(engine, fixture);
      for (let i = 0; i < 40; i++) {
        await crossEntropy(engine, modelId, fixture.batch.slice(i % 2, (i % 2) + 1));
        if (i === 36) disturb(engine);
      }
      const { recoveries } = await engine.stats();
      // those since the 32nd, and the one that was under way
      for (const { replayed } of recoveries) expect(replayed).toBeLessThanOrEqual(6);
      expect(recoveries).toHaveLength(disturb === destroy ? 1 : 0);
      const gradients = await engine.debugGetGradients(modelId);
      await engine.optimStep({ modelId, adamParams: ADAM });
      return [gradients, await engine.debugGetAdapter(modelId)];
    };
    expect(await twin(destroy)).toEqual(await twin(() => undefined));
  });

  it('hands every token of a stream on once', async () => {
    const fixture = await loadFixture('tied');
    const engine = await open();
    const samplerId = await createSampler(engine, { base: 'tied' });
    const events: SampledTokensPayload[] = [];
    let left = 2;
    const { sequences } = await engine.sample(
      {
        samplerId,
        prompt: fixture.batch[0]!.tokens.slice(0, 3),
        numSamples: 2,
        // no seed: chance falls once all the same
        params: { ...GREEDY, temperature: 1, seed: null, maxTokens: 24, stopAtEos: false },
        promptLogprobs: false,
        topkPromptLogprobs: 0,
      },
      {
        onTokens: (event) => {
          events.push(event);
          if (left-- > 0) destroy(engine);
        },
      },
    );
    const streamed = sequences.map((_, i) => events.filter((e) => e.sequence === i).flatMap((e) => e.tokens));
    expect(streamed).toEqual(sequences.map(({ tokens }) => tokens));
    expect((await engine.stats()).recoveries.length).toBeGreaterThan(0);
  });

  it('while clients are made does not keep them from being made', async () => {
    const fixture = await loadFixture('tied');
    const engine = await open();
    const making = [
      createModel(engine, fixture, null),
      createSampler(engine, { base: 'grouped-odd' }),
    ] as const;
    await later(10);
    destroy(engine);
    const [modelId] = await Promise.all(making);
    const second = createSampler(engine, { modelId });
    destroy(engine);
    await second;
    expect((await crossEntropy(engine, modelId, fixture.batch)).loss).toBeGreaterThan(0);
    expect(await engine.stats()).toMatchObject({ models: 1, samplers: 2 });
    await engine.unloadModel(modelId);
    expect(await engine.stats()).toMatchObject({ models: 0, samplers: 2 });
  });
});

it('nobody waits for ever who leaves, or is disposed, while a device is lost', async () => {
  const fixture = await loadFixture('tied');
  for (const wait of [0, 5, 60]) {
    const engine = await open();
    const modelId = await createModel(engine, fixture);
    const samplerId = await createSampler(engine, { modelId });
    const settled = (calls: readonly Promise<unknown>[]) =>
      Promise.all(
        calls.map((call) =>
          call.then(
            () => 'done',
            (error: Error) => error.name,
          ),
        ),
      );
    const request = { samplerId, prompt: [1, 2, 3], numSamples: 1, params: GREEDY };
    const calls = (): Promise<unknown>[] => [
      crossEntropy(engine, modelId, fixture.batch),
      crossEntropy(engine, modelId, fixture.batch),
      engine.optimStep({ modelId, adamParams: ADAM }),
      engine.sample({ ...request, promptLogprobs: true, topkPromptLogprobs: 0 }),
    ];
    const first = settled(calls());
    destroy(engine);
    await later(wait);
    const leaving = [engine.unloadModel(modelId), engine.unloadSampler(samplerId)];
    for (const outcome of [...(await first), ...(await settled(leaving))])
      expect(outcome).toMatch(/^(done|AbortedError)$/);
    expect(await engine.stats()).toMatchObject({ models: 0, samplers: 0 });

    const other = await createModel(engine, fixture);
    const last = settled([
      crossEntropy(engine, other, fixture.batch),
      engine.optimStep({ modelId: other, adamParams: ADAM }),
    ]);
    destroy(engine);
    await later(wait);
    await engine.dispose();
    for (const outcome of await last) expect(outcome).toMatch(/^(done|AbortedError)$/);
  }
});

/** WebGPU that can be opened as long as `left` says so. */
function limited(): { opener: DeviceOpener; left: number } {
  const inner = webgpuOpener();
  const limit = {
    left: 1,
    opener: {
      kind: 'webgpu',
      open: async () => {
        if (limit.left-- <= 0) throw new DeviceUnavailableError('the driver is gone');
        return inner.open();
      },
    } satisfies DeviceOpener,
  };
  return limit;
}

it('when no device is left, calls say so, checkpoints can be read, and one that comes back is taken', async () => {
  const fixture = await loadFixture('tied');
  const webgpu = limited();
  const engine = await open({ devices: [webgpu.opener], store: new MemoryStore() });
  const modelId = await createModel(engine, fixture);
  const { loss } = await crossEntropy(engine, modelId, fixture.batch);
  const save = {
    modelId,
    checkpointType: 'training',
    name: 'a',
    ttlSeconds: null,
    overwrite: false,
  } as const;
  await engine.saveWeights(save);
  const inFlight = crossEntropy(engine, modelId, fixture.batch);
  destroy(engine);
  const calls: (() => Promise<unknown>)[] = [
    () => inFlight,
    () => crossEntropy(engine, modelId, fixture.batch),
    () => createSampler(engine, { base: 'tied' }),
    () => createModel(engine, fixture, null),
  ];
  for (const call of calls) {
    const error = await call().then(
      () => expect.fail('it resolved'),
      (reason: Error) => reason,
    );
    expect(error).toBeInstanceOf(DeviceLostError);
    expect(error.message).toMatch(/no other can be opened: .*the driver is gone/);
  }
  const { checkpoints } = await engine.listCheckpoints(modelId);
  expect(checkpoints).toHaveLength(1);
  expect(await engine.getCheckpointArchive(checkpoints[0]!.tinkerPath)).toMatchObject({ kind: 'blob' });
  // the gradient of the answered request is still there
  webgpu.left = 1;
  const twin = await open();
  const other = await createModel(twin, fixture);
  await crossEntropy(twin, other, fixture.batch);
  expect(await engine.debugGetGradients(modelId)).toEqual(await twin.debugGetGradients(other));
  expect((await crossEntropy(engine, modelId, fixture.batch)).loss).toBe(loss);
});

it('one that is lost whenever it is used is given up', async () => {
  const inner = webgpuOpener();
  let opens = 0;
  const opener: DeviceOpener = {
    kind: 'webgpu',
    open: async () => {
      opens++;
      const device = await inner.open();
      const compile = device.compile.bind(device);
      device.compile = (trace, options) => {
        (device as unknown as { context: { device: GPUDevice } }).context.device.destroy();
        return compile(trace, options);
      };
      return device;
    },
  };
  const fixture = await loadFixture('tied');
  const engine = await open({ devices: [opener] });
  const sessionId = await sessionOf(engine);
  expect(sessionId).toBeTruthy();
  const modelId = await createModel(engine, fixture);
  await expect(crossEntropy(engine, modelId, fixture.batch)).rejects.toThrow(/was lost 3 times in a row/);
  expect(opens).toBe(3);
});
