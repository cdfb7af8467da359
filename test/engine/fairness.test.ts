/** Several clients at once: who waits for whom, by the order in which work reaches the GPU. */
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import type { SamplePayload } from '../../src/api/contract/types';
import type { Engine } from '../../src/engine/engine';
import {
  createModel,
  createSampler,
  crossEntropy,
  encodedBy,
  GREEDY,
  loadFixture,
  openEngine,
  type AdapterRole,
  type Fixture,
} from '../support/engine';

const ADAM = { learningRate: 1e-3, beta1: 0.9, beta2: 0.95, eps: 1e-12, weightDecay: 0, gradClipNorm: 0 };

let engine: Engine;
let fixture: Fixture;
let log: string[];
let modelId: string;
let samplerId: string;

async function open(role?: AdapterRole): Promise<void> {
  engine = await openEngine({ role });
  fixture = await loadFixture('untied');
  modelId = await createModel(engine, fixture);
  samplerId = await createSampler(engine, { modelId });
  // plans that are compiled while others wait would blur the order
  await step(modelId);
  await sample(samplerId, 100);
  log = encodedBy(engine);
}

beforeAll(() => open());
afterAll(() => engine?.dispose());
beforeEach(() => void log.splice(0));

const step = (id: string) =>
  Promise.all([crossEntropy(engine, id, fixture.batch), engine.optimStep({ modelId: id, adamParams: ADAM })]);

const sample = (id: string, maxTokens: number, onFlight: () => void = () => undefined) =>
  engine.sample(
    {
      samplerId: id,
      prompt: fixture.batch[0]!.tokens.slice(0, 5),
      numSamples: 1,
      // unlikely to end early
      params: { ...GREEDY, maxTokens, temperature: 2, seed: 3 },
      promptLogprobs: false,
      topkPromptLogprobs: 0,
    },
    { onTokens: onFlight },
  );

const count = (of: readonly string[], what: RegExp): number => of.filter((label) => what.test(label)).length;
const TRAIN = /forward-backward/;
const DECODE = /decode/;

/** How many of `what` lie between one and the next of `marks`, at most. */
function longestRun(of: readonly string[], what: RegExp, marks: RegExp): number {
  const first = of.findIndex((label) => marks.test(label));
  const last = of.findLastIndex((label) => marks.test(label));
  let [longest, run] = [0, 0];
  for (const label of of.slice(first, last)) {
    if (marks.test(label)) run = 0;
    else if (what.test(label)) longest = Math.max(longest, ++run);
  }
  return longest;
}

/** How many flights of a long sampling request reach the GPU between a training step's call and the step. */
async function flightsBefore(every: number): Promise<number[]> {
  const waited: number[] = [];
  let steps: Promise<unknown> = Promise.resolve();
  let flights = 0;
  const sampled = await sample(samplerId, 100, () => {
    if (++flights % every !== 0) return;
    const from = log.length;
    const pass = crossEntropy(engine, modelId, fixture.batch);
    const update = engine.optimStep({ modelId, adamParams: ADAM });
    steps = Promise.all([steps, update, pass]).then(() => {
      const until = log.findIndex((label, i) => i >= from && TRAIN.test(label));
      waited.push(count(log.slice(from, until), DECODE));
    });
  });
  await steps;
  expect(sampled.sequences[0]!.tokens).toHaveLength(100);
  return waited;
}

it('a training step waits for one flight of a long sampling request at most', async () => {
  const waited = await flightsBefore(5);
  expect(waited.length).toBeGreaterThanOrEqual(4);
  expect(Math.max(...waited)).toBeLessThanOrEqual(1);
});

it('many queued training steps do not hold up a sampler', async () => {
  const order: string[] = [];
  const steps = Array.from({ length: 30 }, (_, i) => step(modelId).then(() => order.push(`step ${i}`)));
  const sampled = sample(samplerId, 24).then(() => order.push('sampled'));
  await Promise.all([...steps, sampled]);
  // one pass of the trainer that has its turn, and the one that is queued on the GPU already
  expect(longestRun(log, TRAIN, /prefill|decode/)).toBeLessThanOrEqual(2);
  expect(order.indexOf('sampled')).toBeLessThan(20);
});

it('two trainers and a sampler take turns, and none changes what another computes', async () => {
  const other = await createModel(engine, fixture, null);
  const twins = [await createModel(engine, fixture), await createModel(engine, fixture, null)];
  for (const id of twins) for (let i = 0; i < 6; i++) await step(id);
  const fresh = await createModel(engine, fixture);
  const alone = await sample(samplerId, 40);
  await step(other);
  log.splice(0);

  const trained = [fresh, other].flatMap((id) =>
    Array.from({ length: id === other ? 5 : 6 }, () => step(id)),
  );
  const [together] = (await Promise.all([sample(samplerId, 40), ...trained])) as [SamplePayload];
  expect(together).toEqual(alone);
  expect(await engine.debugGetAdapter(fresh)).toEqual(await engine.debugGetAdapter(twins[0]!));
  expect(await engine.debugGetAdapter(other)).toEqual(await engine.debugGetAdapter(twins[1]!));
  for (const id of [other, fresh, ...twins]) await engine.unloadModel(id);
});

it('one client alone always has a second unit on the GPU, and no more', async () => {
  const passes = 6;
  const seen: number[] = [];
  const steps = Array.from({ length: passes }, () => [
    crossEntropy(engine, modelId, fixture.batch).then(() => seen.push(count(log, TRAIN))),
    engine.optimStep({ modelId, adamParams: ADAM }),
  ]);
  await Promise.all(steps.flat());
  // when the result of one is there, the next runs, and one more may have taken the place
  seen.forEach((submitted, i) => {
    expect(submitted).toBeGreaterThanOrEqual(Math.min(passes, i + 2));
    expect(submitted).toBeLessThanOrEqual(i + 3);
  });
});

it('nor on a GPU, where a sampler has the next flight queued before the last one lands', async () => {
  await engine.dispose();
  await open({ kind: 'gpu', subgroups: false });
  log.splice(0);
  const waited = await flightsBefore(4);
  expect(waited.length).toBeGreaterThanOrEqual(2);
  expect(Math.max(...waited)).toBeLessThanOrEqual(1);
});
