/** Packing changes nothing: ragged datums in one batch give what each gives alone. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { DatumPayload } from '../../src/api/contract/types';
import type { Engine } from '../../src/engine/engine';
import { expectClose, relativeError } from '../support/compare';
import {
  createModel,
  createSampler,
  crossEntropy,
  datum,
  GREEDY,
  loadFixture,
  openEngine,
  type Fixture,
} from '../support/engine';

let engine: Engine;
beforeAll(async () => {
  engine = await openEngine();
});
afterAll(() => engine?.dispose());

/** Only the order of summation differs, so float32 rounding is all that may. */
function expectSameGradients(
  actual: ReadonlyMap<string, Float32Array>,
  expected: ReadonlyMap<string, Float32Array>,
): void {
  expect([...actual.keys()]).toEqual([...expected.keys()]);
  for (const [name, e] of expected) expect(relativeError(actual.get(name)!, e), name).toBeLessThan(2e-5);
}

/** Deterministic datums of the given lengths. */
function datums(lengths: readonly number[], vocabSize: number): DatumPayload[] {
  let state = 12345;
  const next = (): number => (state = (state * 1103515245 + 12345) % 2 ** 31) >>> 8;
  return lengths.map((n) => {
    const ids = (): number[] => Array.from({ length: n }, () => next() % vocabSize);
    return datum(
      ids(),
      ids(),
      Array.from({ length: n }, () => ((next() % 5) - 1) / 2),
    );
  });
}

async function pass(fixture: Fixture, batches: readonly (readonly DatumPayload[])[]) {
  const modelId = await createModel(engine, fixture);
  const results = await Promise.all(batches.map((data) => crossEntropy(engine, modelId, data)));
  const gradients = await engine.debugGetGradients(modelId);
  await engine.unloadModel(modelId);
  return {
    logprobs: results.flatMap((r) => r.logprobs),
    loss: results.reduce((sum, r) => sum + r.loss, 0),
    gradients,
  };
}

describe('a ragged batch', () => {
  for (const name of ['grouped-odd', 'llama3-rope'] as const) {
    it(`${name}: equals its datums one at a time`, async () => {
      const fixture = await loadFixture(name);
      const data = datums([13, 1, 64, 2, 1, 65, 31, 7], fixture.vocabSize);
      const together = await pass(fixture, [data]);
      const apart = await pass(
        fixture,
        data.map((d) => [d]),
      );
      together.logprobs.forEach((row, i) =>
        expectClose(row, apart.logprobs[i]!, { atol: 1e-5 }, `datum ${i}`),
      );
      expectClose([together.loss], [apart.loss], { atol: 1e-3, rtol: 1e-5 }, 'loss:sum');
      expectSameGradients(together.gradients, apart.gradients);
    });
  }

  it('does not depend on the order of its datums', async () => {
    const fixture = await loadFixture('tied');
    const data = datums([5, 40, 1, 33], fixture.vocabSize);
    const forth = await pass(fixture, [data]);
    const back = await pass(fixture, [data.toReversed()]);
    back.logprobs
      .toReversed()
      .forEach((row, i) => expectClose(row, forth.logprobs[i]!, { atol: 1e-5 }, `datum ${i}`));
    expectSameGradients(back.gradients, forth.gradients);
  });

  it('keeps a neighbour out of a datum: changing one leaves the others bit for bit', async () => {
    const fixture = await loadFixture('tied');
    const data = datums([5, 40, 1, 33], fixture.vocabSize);
    const [other] = datums([40], fixture.vocabSize);
    const before = await pass(fixture, [data]);
    const after = await pass(fixture, [data.with(1, other!)]);
    for (const i of [0, 2, 3]) expect(after.logprobs[i]).toEqual(before.logprobs[i]);
    expect(after.logprobs[1]).not.toEqual(before.logprobs[1]);
  });
});

describe('accumulation', () => {
  it('adds up over calls until optim_step, which clears', async () => {
    const fixture = await loadFixture('tied');
    const modelId = await createModel(engine, fixture);
    const data = datums([17, 3], fixture.vocabSize);
    await crossEntropy(engine, modelId, data);
    const once = await engine.debugGetGradients(modelId);
    await crossEntropy(engine, modelId, data, true);
    expect(await engine.debugGetGradients(modelId)).toEqual(once); // forward adds nothing
    await crossEntropy(engine, modelId, data);
    const twice = await engine.debugGetGradients(modelId);
    for (const [name, values] of once) {
      expect(
        relativeError(
          twice.get(name)!,
          values.map((v) => 2 * v),
        ),
        name,
      ).toBeLessThan(1e-6);
    }
    const { losses: _losses, gradNorms: _norms, final: _final, ...adamParams } = fixture.runs.plain;
    await engine.optimStep({ modelId, adamParams });
    for (const [name, values] of await engine.debugGetGradients(modelId)) {
      expect(
        values.every((v) => v === 0),
        name,
      ).toBe(true);
    }
    await engine.unloadModel(modelId);
  });

  it('splits a batch too large for one pass without changing the result', async () => {
    // 8,192 tokens is the most that run together
    const fixture = await loadFixture('llama3-rope');
    const length = fixture.maxPositionEmbeddings;
    const data = datums(new Array<number>(66).fill(length), fixture.vocabSize);
    expect(66 * length).toBeGreaterThan(8192);
    const whole = await pass(fixture, [data]);
    const halves = await pass(fixture, [data.slice(0, 33), data.slice(33)]);
    expect(whole.logprobs).toHaveLength(66);
    whole.logprobs.forEach((row, i) => expectClose(row, halves.logprobs[i]!, { atol: 1e-5 }, `datum ${i}`));
    expectClose([whole.loss], [halves.loss], { atol: 0, rtol: 1e-5 }, 'loss:sum');
    expectSameGradients(whole.gradients, halves.gradients);
  });
});

describe('models of one base', () => {
  it('do not disturb each other when they train and sample at once, while plans grow', async () => {
    const fixture = await loadFixture('untied');
    // every request longer than the last, so that each needs a larger plan than there is
    const requests = [3, 50, 90, 128].map((n, i) =>
      datums(new Array<number>(2 * i + 1).fill(n), fixture.vocabSize),
    );
    const { losses: _losses, gradNorms: _norms, final: _final, ...adamParams } = fixture.runs.clipped;
    const work = async (on: Engine, adapter: Fixture['adapter'] | null): Promise<unknown> => {
      const modelId = await createModel(on, fixture, adapter);
      const results = requests.flatMap((data): Promise<unknown>[] => [
        crossEntropy(on, modelId, data),
        on.optimStep({ modelId, adamParams }),
        crossEntropy(on, modelId, data.toReversed(), true),
        createSampler(on, { modelId }).then((samplerId) =>
          on.sample({
            samplerId,
            prompt: data[0]!.tokens.slice(0, 100),
            numSamples: 3,
            params: { ...GREEDY, temperature: 1 },
            promptLogprobs: true,
            topkPromptLogprobs: 0,
          }),
        ),
      ]);
      return [await Promise.all(results), await on.debugGetAdapter(modelId)];
    };
    const fresh = await openEngine();
    const atOnce = await Promise.all([
      work(fresh, fixture.adapter),
      work(fresh, null),
      work(fresh, fixture.adapter),
    ]);
    await fresh.dispose();
    const alone = [await work(engine, fixture.adapter), await work(engine, null)];
    expect(atOnce).toEqual([...alone, alone[0]]);
  });
});
