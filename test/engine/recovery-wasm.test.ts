/** Devices of other kinds that go away: a WebAssembly instance that traps, and a GPU that is lost again and again. */
import { trapNextRun } from '../support/wasm-trap';
import { afterEach, expect, it } from 'vitest';
import { OutOfMemoryError } from '../../src/api/contract/errors';
import { expectClose, relativeError } from '../support/compare';
import type { Engine } from '../../src/engine/engine';
import {
  createModel,
  createSampler,
  crossEntropy,
  datum,
  gpuOf,
  GREEDY,
  loadFixture,
  openEngine,
  type Fixture,
  type OpenOptions,
} from '../support/engine';

const ADAM = { learningRate: 3e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0.01, gradClipNorm: 1 };

const opened: Engine[] = [];
afterEach(() => Promise.all(opened.splice(0).map((engine) => engine.dispose())));

async function open(options: OpenOptions): Promise<Engine> {
  const engine = await openEngine(options);
  opened.push(engine);
  return engine;
}

interface Run {
  readonly losses: readonly number[];
  readonly tokens: readonly (readonly number[])[];
  readonly adapter: ReadonlyMap<string, Float32Array>;
}

/** Eight steps, both requests of each in flight, and greedy samples; `disturb` is called while they are. */
async function train(engine: Engine, fixture: Fixture, disturb: (step: number) => void): Promise<Run> {
  const modelId = await createModel(engine, fixture);
  const losses: number[] = [];
  const tokens: (readonly number[])[] = [];
  for (let i = 0; i < 8; i++) {
    const passes = [fixture.batch.slice(0, 1), fixture.batch.slice(1)].map((data) =>
      crossEntropy(engine, modelId, data),
    );
    const step = engine.optimStep({ modelId, adamParams: ADAM });
    disturb(i);
    losses.push(...(await Promise.all(passes)).map(({ loss }) => loss));
    await step;
    if (i % 4 > 0) continue;
    const samplerId = await createSampler(engine, { modelId });
    const request = { samplerId, prompt: [1, 2, 3], numSamples: 1, params: GREEDY };
    const drawn = engine.sample({ ...request, promptLogprobs: false, topkPromptLogprobs: 0 });
    disturb(i + 0.5);
    tokens.push((await drawn).sequences[0]!.tokens);
  }
  return { losses, tokens, adapter: await engine.debugGetAdapter(modelId) };
}

it('a WebAssembly instance that traps is replaced by another, bit for bit', async () => {
  const fixture = await loadFixture('grouped-odd');
  const expected = await train(await open({ device: 'wasm' }), fixture, () => undefined);
  const engine = await open({ device: 'wasm' });
  const run = await train(engine, fixture, (step) => {
    if ([1, 3, 4.5].includes(step)) trapNextRun();
  });
  expect(run).toEqual(expected);
  const { recoveries } = await engine.stats();
  expect(recoveries).toHaveLength(3);
  for (const { from, to, reason } of recoveries) {
    expect([from, to]).toEqual(['wasm', 'wasm']);
    expect(reason).toMatch(/ONNX Runtime broke down .*memory access out of bounds/);
  }
});

it('a GPU that is lost again and again makes room for the next kind of device', async () => {
  const fixture = await loadFixture('tied');
  const options = { role: { kind: 'gpu', subgroups: false }, device: 'auto' } as const;
  const calm = await open(options);
  const expected = await train(calm, fixture, () => undefined);
  expect((await calm.stats()).device).toMatchObject({ kind: 'webgpu', reason: 'a GPU is the fastest' });

  const engine = await open(options);
  let hunted: GPUDevice | undefined;
  const run = await train(engine, fixture, (step) => {
    if (step !== 3) return;
    // every GPU that this engine opens from now on dies at once
    const hunt = setInterval(() => {
      if (engine.device.info.kind !== 'webgpu') return clearInterval(hunt);
      const { device } = gpuOf(engine);
      if (device === hunted) return;
      hunted = device;
      device.destroy();
    }, 1);
  });
  const { device, recoveries } = await engine.stats();
  expect(device.kind).toBe('wasm');
  expect(device.reason).toMatch(
    /^WebGPU was lost 3 times in a row .*; ONNX Runtime as WebAssembly is the next best$/,
  );
  expect(recoveries.at(-1)).toMatchObject({ from: 'webgpu', to: 'wasm' });
  // steps before the loss are those of the GPU, those after it of another processor
  expect(run.losses.slice(0, 6)).toEqual(expected.losses.slice(0, 6));
  expectClose(run.losses, expected.losses, { atol: 0, rtol: 1e-4 }, 'losses');
  expect(run.tokens).toEqual(expected.tokens);
  for (const [name, values] of expected.adapter) {
    expect(relativeError(run.adapter.get(name)!, values), name).toBeLessThan(1e-3);
  }
});

/** Makes the device refuse one run for want of memory, after it has done `before` more of them. */
function starve({ device }: Engine, before: number): void {
  let left = before;
  const compile = device.compile.bind(device);
  device.compile = async (...args) => {
    const plan = await compile(...args);
    const bind = plan.bind.bind(plan);
    plan.bind = (...states) => {
      const bound = bind(...states);
      const refuse = (): Promise<never> => Promise.reject(new OutOfMemoryError('no room'));
      return { run: (options) => (left-- === 0 ? refuse() : bound.run(options)) };
    };
    return plan;
  };
}

it.each([1, 2])(
  'a request that runs out of memory at its batch %i leaves the gradients as they were',
  async (batch) => {
    const fixture = await loadFixture('tied');
    const engine = await open({ device: 'wasm' });
    const modelId = await createModel(engine, fixture);
    const tokens = Array.from({ length: 30 }, (_, i) => (7 * i) % 20);
    // three batches
    const large = Array.from({ length: 700 }, () => datum(tokens, tokens));
    if (batch === 2) await crossEntropy(engine, modelId, fixture.batch);
    const before = await engine.debugGetGradients(modelId);
    starve(engine, batch);
    const calls = [
      crossEntropy(engine, modelId, large),
      crossEntropy(engine, modelId, fixture.batch),
    ] as const;
    await expect(calls[0]).rejects.toBeInstanceOf(OutOfMemoryError);
    await calls[1];
    const after = await engine.debugGetGradients(modelId);
    const times = batch === 2 ? 2 : 1;
    const twin = await createModel(engine, fixture);
    for (let i = 0; i < times; i++) await crossEntropy(engine, twin, fixture.batch);
    expect(after).toEqual(await engine.debugGetGradients(twin));
    expect(after).not.toEqual(before);
    expect((await engine.stats()).recoveries).toEqual([]);
  },
);
