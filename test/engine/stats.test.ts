/** What a training step asks of the GPU: counts and bytes only, never time. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { EngineStats } from '../../src/api/contract/types';
import type { Engine } from '../../src/engine/engine';
import { adapterLayout } from '../../src/engine/program/adapter';
import { optimizerTrace, trainTrace } from '../../src/engine/program/steps';
import type { Trace } from '../../src/engine/trace';
import { parseConfig, type DecoderConfig } from '../../src/models/config';
import { crossEntropy, datum, gpuOf, LORA, openEngine, sessionOf } from '../support/engine';

type Counts = Omit<EngineStats, 'device' | 'recoveries'>;

const ADAM = { learningRate: 1e-3, beta1: 0.9, beta2: 0.95, eps: 1e-12, weightDecay: 0, gradClipNorm: 1 };
const BASE = 'untied';

/** A batch of sequences of these lengths. */
const dataOf = (lengths: readonly number[]) =>
  lengths.map((length, i) => {
    const id = (t: number): number => (7 * t + 11 * i) % 20;
    const tokens = Array.from({ length: length + 1 }, (_, t) => id(t));
    return datum(tokens.slice(0, -1), tokens.slice(1));
  });

function difference(before: EngineStats, after: EngineStats): Counts {
  const { device: _, recoveries: __, ...counts } = after;
  const entries = Object.entries(counts) as [keyof Counts, number][];
  return Object.fromEntries(entries.map(([key, value]) => [key, value - before[key]])) as unknown as Counts;
}

describe('engine.stats()', () => {
  let engine: Engine;
  let modelId: string;
  let layers: number;

  const createModel = async (): Promise<string> =>
    (
      await engine.createModel({
        sessionId: await sessionOf(engine),
        baseModel: BASE,
        lora: LORA,
        userMetadata: {},
      })
    ).modelId;
  const pass = (lengths: readonly number[]) => crossEntropy(engine, modelId, dataOf(lengths));
  const update = () => engine.optimStep({ modelId, adamParams: ADAM });
  /** both submitted before either is awaited */
  const step = (lengths: readonly number[]) => Promise.all([pass(lengths), update()]);
  const counted = async (body: () => Promise<unknown>): Promise<Counts> => {
    const before = await engine.stats();
    await body();
    return difference(before, await engine.stats());
  };

  beforeAll(async () => {
    engine = await openEngine();
    modelId = await createModel();
    const config = (await (await fetch(`/test/fixtures/models/${BASE}/config.json`)).json()) as {
      num_hidden_layers: number;
    };
    layers = config.num_hidden_layers;
    await step(SMALL);
    // readbacks overlap or not, as it happens: let the pool of staging buffers grow to what overlapping needs
    for (let i = 0; i < 4; i++) await Promise.all([step(SMALL), step(SMALL)]);
  });
  afterAll(() => engine.dispose());

  const SMALL = [20, 3, 1, 11];
  const NOTHING_NEW = { bufferCreations: 0, bindGroupCreations: 0, pipelines: 0, bytes: 0, peakBytes: 0 };

  it('a warm forwardBackward is one submit and creates nothing', async () => {
    expect(await counted(() => pass(SMALL))).toMatchObject({ submits: 1, ...NOTHING_NEW });
  });

  it('a warm optimStep is one submit and creates nothing', async () => {
    await pass(SMALL);
    expect(await counted(update)).toMatchObject({ submits: 1, ...NOTHING_NEW });
  });

  it('both at once are two submits and create nothing', async () => {
    expect(await counted(() => step(SMALL))).toMatchObject({ submits: 2, ...NOTHING_NEW });
  });

  it('other lengths of the same bucket need nothing new', async () => {
    expect(await counted(() => step([5, 30]))).toMatchObject({ submits: 2, ...NOTHING_NEW });
  });

  it('every launch of the traces is counted, no more', async () => {
    const config = await configOf(layers);
    const adapter = adapterLayout(config, LORA);
    const expected =
      launchesOf(trainTrace({ config, adapter }, 'cross_entropy')) + launchesOf(optimizerTrace(adapter));
    expect((await counted(() => step(SMALL))).dispatches).toBe(expected);
  });

  it('counts and bytes stay the same over many steps', async () => {
    const steps: Counts[] = [];
    for (let i = 0; i < 10; i++) steps.push(await counted(() => step(SMALL)));
    for (const counts of steps) expect(counts).toEqual({ ...steps[0], submits: 2, ...NOTHING_NEW });
  });

  it('a larger batch replaces the plans once', async () => {
    const large = [30, 25, 28, 26];
    const grown = await counted(() => step(large));
    expect(grown).toMatchObject({ submits: 2, pipelines: 0 });
    expect(grown.bytes).toBeGreaterThan(0);
    expect(await counted(() => step(large))).toMatchObject({ submits: 2, ...NOTHING_NEW });
    expect(await counted(() => step(SMALL))).toMatchObject({ submits: 2, ...NOTHING_NEW });
  });

  it('models that come and go leave no bytes behind', async () => {
    const first = modelId;
    for (let i = 0; i < 3; i++) {
      const { bytes, models } = await counted(async () => {
        modelId = await createModel();
        await step(SMALL);
        await engine.unloadModel(modelId);
        modelId = first;
      });
      expect({ bytes, models }).toEqual({ bytes: 0, models: 0 });
    }
  });

  async function configOf(num_hidden_layers: number): Promise<DecoderConfig> {
    const response = await fetch(`/test/fixtures/models/${BASE}/config.json`);
    const json = (await response.json()) as Record<string, unknown>;
    return parseConfig({ ...json, num_hidden_layers }, BASE);
  }

  function launchesOf(trace: Trace): number {
    return trace.nodes.reduce((n, { op, node }) => n + op.webgpu(node, gpuOf(engine).profile).length, 0);
  }
});
