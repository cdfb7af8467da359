/** Memory: flat over a thousand steps, and given back by whoever is disposed. */
import { afterEach, expect, it } from 'vitest';
import type { EngineStats } from '../../src/api/contract/types';
import type { Engine } from '../../src/engine/engine';
import {
  createModel,
  createSampler,
  crossEntropy,
  datum,
  GREEDY,
  loadFixture,
  LORA,
  openEngine,
  sessionOf,
} from '../support/engine';

const ADAM = { learningRate: 1e-4, beta1: 0.9, beta2: 0.95, eps: 1e-12, weightDecay: 0, gradClipNorm: 0 };

let engine: Engine;
afterEach(() => engine?.dispose());

const sample = (samplerId: string, prompt: readonly number[], promptLogprobs = false) =>
  engine.sample({
    samplerId,
    prompt,
    numSamples: 2,
    params: { ...GREEDY, maxTokens: 3 },
    promptLogprobs,
    topkPromptLogprobs: 0,
  });

async function step(modelId: string, length: number): Promise<void> {
  const tokens = Array.from({ length }, (_, i) => (7 * i) % 20);
  await Promise.all([
    crossEntropy(engine, modelId, [datum(tokens, tokens)]),
    engine.optimStep({ modelId, adamParams: ADAM }),
  ]);
}

it('a thousand steps of training with sampling every tenth hold memory flat', async () => {
  engine = await openEngine();
  const fixture = await loadFixture('tied');
  const modelId = await createModel(engine, fixture);
  const prompt = fixture.batch[0]!.tokens.slice(0, 5);
  const held: EngineStats[] = [];
  for (let i = 1; i <= 1000; i++) {
    await step(modelId, 4 + (i % 7));
    if (i % 10 === 0) {
      const samplerId = await createSampler(engine, { modelId });
      await sample(samplerId, prompt, i % 20 === 0);
      await engine.unloadSampler(samplerId);
    }
    if (i % 100 === 0) held.push(await engine.stats());
  }
  const [first, ...later] = held;
  for (const stats of later) {
    expect(stats).toMatchObject({ bytes: first!.bytes, peakBytes: first!.peakBytes, samplers: 0, models: 1 });
    expect(stats.pipelines).toBe(first!.pipelines);
  }
  // what is made anew every tenth step: the snapshot, and the bind groups of its plans; the same every time
  const made = held.map(({ bufferCreations, bindGroupCreations }) => [bufferCreations, bindGroupCreations]);
  const growth = made
    .slice(1)
    .map(([buffers, groups], i) => [buffers! - made[i]![0]!, groups! - made[i]![1]!]);
  for (const each of growth) expect(each).toEqual(growth[0]);
  expect(growth[0]![0]).toBeLessThanOrEqual(10);
});

it('whoever is disposed gives back what it held, and leaves the others working', async () => {
  engine = await openEngine();
  const fixture = await loadFixture('tied');
  const prompt = fixture.batch[0]!.tokens.slice(0, 5);
  const sessionId = await sessionOf(engine);
  const bytes = async (): Promise<number> => (await engine.stats()).bytes;
  const train = async (rank: number): Promise<string> => {
    const lora = { ...LORA, rank };
    const { modelId } = await engine.createModel({ sessionId, baseModel: 'tied', lora, userMetadata: {} });
    await step(modelId, 40);
    return modelId;
  };

  /** Clients that come, work, and go in another order; the bytes held with one model, with all, and after each left. */
  const round = async (): Promise<number[]> => {
    const held = [await bytes()];
    const small = await train(4);
    held.push(await bytes());
    const large = await train(16);
    const samplers = [
      await createSampler(engine, { modelId: large }),
      await createSampler(engine, { modelId: large }),
      await createSampler(engine, { base: 'tied' }),
    ];
    const answers = await Promise.all(samplers.map((id) => sample(id, prompt, true)));
    held.push(await bytes());
    // its samplers go on without it
    await engine.unloadModel(large);
    held.push(await bytes());
    expect(await Promise.all(samplers.map((id) => sample(id, prompt, true)))).toEqual(answers);
    for (const [i, id] of samplers.entries()) {
      expect(await sample(id, prompt, true)).toEqual(answers[i]);
      await engine.unloadSampler(id);
      held.push(await bytes());
    }
    await step(small, 40);
    await engine.unloadModel(small);
    held.push(await bytes());
    return held;
  };
  // the base model stays when its first client goes; so do a few buffers for readbacks, once they are there
  await round();
  const [none, one, all, ...after] = await round();
  expect(one).toBeGreaterThan(none!);
  expect(all).toBeGreaterThan(one!);
  for (const [i, now] of after.entries()) expect(now).toBeLessThan([all, ...after][i]!);
  expect(after.at(-2)).toBe(one);
  expect(after.at(-1)).toBe(none);
  expect(await engine.stats()).toMatchObject({ models: 0, samplers: 0 });
});

it('a client that comes while the last of its kind goes is not torn down with it', async () => {
  engine = await openEngine();
  const fixture = await loadFixture('tied');
  const prompt = fixture.batch[0]!.tokens.slice(0, 5);
  const run = async (): Promise<unknown> => {
    const modelId = await createModel(engine, fixture);
    await step(modelId, 20);
    const samplerId = await createSampler(engine, { modelId });
    const answer = await sample(samplerId, prompt, true);
    // neither is waited for
    leaving.push(engine.unloadModel(modelId), engine.unloadSampler(samplerId));
    return answer;
  };
  const leaving: Promise<void>[] = [];
  const answer = await run();
  for (let i = 0; i < 5; i++) expect(await run()).toEqual(answer);
  await Promise.all(leaving);
  expect(await engine.stats()).toMatchObject({ models: 0, samplers: 0 });
});
