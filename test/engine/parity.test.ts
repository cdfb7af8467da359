/**
 * The whole model against transformers + peft + torch.optim on the same weights.
 * The gradient of every LoRA matrix is compared, with random B: with B = 0 the
 * gradient of A is zero and a missing backward pass goes unnoticed.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Engine } from '../../src/engine/engine';
import { expectClose, relativeError } from '../support/compare';
import {
  createModel,
  createSampler,
  crossEntropy,
  FIXTURE_NAMES,
  GREEDY,
  loadFixture,
  LORA,
  openEngine,
  rolesOf,
  sessionOf,
  type Fixture,
  type Matrices,
} from '../support/engine';

let engine: Engine;
beforeAll(async () => {
  engine = await openEngine();
});
afterAll(() => engine?.dispose());

/** Fails unless every matrix is within `limit` of its reference, relative to the reference's largest element. */
function expectMatricesClose(
  actual: ReadonlyMap<string, Float32Array>,
  expected: Matrices,
  limit: number,
): void {
  expect([...actual.keys()].sort()).toEqual([...expected.keys()].sort());
  const errors = [...expected].map(([name, e]) => [name, relativeError(actual.get(name)!, e)] as const);
  const bad = errors.filter(([, error]) => !(error <= limit));
  const rows = bad.map(([name, error]) => `  ${name}: ${error.toExponential(1)}`);
  if (bad.length)
    throw new Error(
      `${bad.length} of ${errors.length} matrices are off by more than ${limit}:\n${rows.join('\n')}`,
    );
  const worst = errors.reduce((a, b) => (b[1] > a[1] ? b : a));
  console.log(`${expected.size} matrices, worst relative error ${worst[1].toExponential(1)} (${worst[0]})`);
}

for (const name of FIXTURE_NAMES) {
  describe(`${name}: as transformers + peft`, () => {
    let fixture: Fixture;
    beforeAll(async () => {
      fixture = await loadFixture(name);
    });

    const expectLogprobs = (actual: readonly Float32Array[]): void => {
      expect(actual).toHaveLength(fixture.logprobs.length);
      actual.forEach((row, i) =>
        expectClose(row, fixture.logprobs[i]!, { atol: 1e-4, rtol: 0 }, `datum ${i}`),
      );
    };

    it('log-probabilities, loss and the gradient of every LoRA matrix', async () => {
      const modelId = await createModel(engine, fixture);
      const { logprobs, loss } = await crossEntropy(engine, modelId, fixture.batch);
      expectLogprobs(logprobs);
      expectClose([loss], [fixture.loss], { atol: 0, rtol: 1e-5 }, 'loss:sum');
      expectMatricesClose(await engine.debugGetGradients(modelId), fixture.gradients, 1e-3);

      const again = await crossEntropy(engine, modelId, fixture.batch, true);
      expectLogprobs(again.logprobs);
      expectClose([again.loss], [fixture.loss], { atol: 0, rtol: 1e-5 }, 'loss:sum of forward');
      await engine.unloadModel(modelId);
    });

    for (const run of ['plain', 'clipped'] as const) {
      it(`ten AdamW steps, ${run}`, async () => {
        const { losses, gradNorms, final, ...adamParams } = fixture.runs[run];
        const modelId = await createModel(engine, fixture);
        // all twenty requests are submitted before any result is awaited, as users do
        const passes = losses.map(() => {
          const pass = crossEntropy(engine, modelId, fixture.batch);
          return { pass, step: engine.optimStep({ modelId, adamParams }) };
        });
        const gotLosses = await Promise.all(passes.map(async ({ pass }) => (await pass).loss));
        const gotNorms = await Promise.all(
          passes.map(async ({ step }) => (await step).metrics['grad_norm:mean']!),
        );
        expectClose(gotLosses, losses, { atol: 0, rtol: 1e-3 }, 'losses');
        expectClose(gotNorms, gradNorms, { atol: 0, rtol: 1e-3 }, 'gradient norms');
        expectMatricesClose(await engine.debugGetAdapter(modelId), final, 1e-3);
        await engine.unloadModel(modelId);
      });
    }
  });
}

// the kernels chosen for other adapters than this page's, as one model
for (const role of rolesOf(
  { kind: 'gpu', subgroups: true },
  { kind: 'gpu', subgroups: false },
  { kind: 'software', subgroups: false },
)) {
  if (!role) continue;
  describe(`on a ${role.kind} adapter with${role.subgroups ? '' : 'out'} subgroups`, () => {
    let other: Engine;
    beforeAll(async () => {
      other = await openEngine({ role });
    });
    afterAll(() => other?.dispose());

    for (const name of ['tied', 'grouped-odd', 'llama3-rope'] as const) {
      it(`${name}: log-probabilities, every LoRA gradient, and greedy tokens`, async () => {
        const fixture = await loadFixture(name);
        const modelId = await createModel(other, fixture);
        const { logprobs } = await crossEntropy(other, modelId, fixture.batch);
        logprobs.forEach((row, i) =>
          expectClose(row, fixture.logprobs[i]!, { atol: 1e-4, rtol: 0 }, `datum ${i}`),
        );
        expectMatricesClose(await other.debugGetGradients(modelId), fixture.gradients, 1e-3);
        const samplerId = await createSampler(other, { modelId });
        const { prompt, tokens } = fixture.greedy.adapted;
        const request = {
          samplerId,
          prompt,
          numSamples: 1,
          params: GREEDY,
          promptLogprobs: false,
          topkPromptLogprobs: 0,
        };
        expect((await other.sample(request)).sequences[0]!.tokens).toEqual(tokens);
      });
    }
  });
}

describe('a fresh model', () => {
  it('equals its base exactly, and its seed fixes A within ±1/√in', async () => {
    const fixture = await loadFixture('grouped-odd');
    const [first, second] = [
      await createModel(engine, fixture, null),
      await createModel(engine, fixture, null),
    ];
    const { modelId: other } = await engine.createModel({
      sessionId: await sessionOf(engine),
      baseModel: fixture.name,
      lora: { ...LORA, seed: 2 },
      userMetadata: {},
    });
    const adapter = await engine.debugGetAdapter(first);
    expect(await engine.debugGetAdapter(second)).toEqual(adapter);
    expect((await engine.debugGetAdapter(other)).get('lm_head.lora_A')).not.toEqual(
      adapter.get('lm_head.lora_A'),
    );
    for (const [name, values] of adapter) {
      const largest = values.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
      if (name.endsWith('lora_B')) {
        expect(largest, name).toBe(0);
      } else {
        const bound = 1 / Math.sqrt(values.length / LORA.rank);
        expect(largest, name).toBeLessThanOrEqual(bound);
        expect(largest, name).toBeGreaterThan(0.8 * bound);
      }
    }
    const prompt = [...fixture.batch[2]!.tokens];
    const request = {
      prompt,
      numSamples: 1,
      params: { ...GREEDY, maxTokens: 1 },
      promptLogprobs: true,
      topkPromptLogprobs: 0,
    };
    const ofBase = await engine.sample({
      ...request,
      samplerId: await createSampler(engine, { base: fixture.name }),
    });
    const ofModel = await engine.sample({
      ...request,
      samplerId: await createSampler(engine, { modelId: first }),
    });
    expect(ofModel).toEqual(ofBase);
  });

  it('trains bit for bit the same twice', async () => {
    const fixture = await loadFixture('tied');
    const { losses: _losses, gradNorms: _norms, final: _final, ...adamParams } = fixture.runs.plain;
    const train = async (): Promise<unknown> => {
      const modelId = await createModel(engine, fixture, null);
      for (let i = 0; i < 3; i++) {
        void crossEntropy(engine, modelId, fixture.batch);
        void engine.optimStep({ modelId, adamParams });
      }
      return [
        (await crossEntropy(engine, modelId, fixture.batch)).logprobs,
        await engine.debugGetAdapter(modelId),
      ];
    };
    expect(await train()).toEqual(await train());
  });

  it('trains only the parts it is asked to', async () => {
    const fixture = await loadFixture('tied');
    for (const part of ['trainAttn', 'trainMlp', 'trainUnembed'] as const) {
      const lora = {
        ...LORA,
        rank: fixture.rank,
        trainAttn: false,
        trainMlp: false,
        trainUnembed: false,
        [part]: true,
      };
      const { modelId } = await engine.createModel({
        sessionId: await sessionOf(engine),
        baseModel: fixture.name,
        lora,
        userMetadata: {},
      });
      const pattern = { trainAttn: /self_attn/, trainMlp: /mlp/, trainUnembed: /lm_head/ }[part];
      const names = [...fixture.adapter.keys()].filter((n) => pattern.test(n));
      expect([...(await engine.debugGetAdapter(modelId)).keys()].sort()).toEqual(names.sort());
      await crossEntropy(engine, modelId, fixture.batch);
      const gradients = await engine.debugGetGradients(modelId);
      for (const [name, values] of gradients) {
        // with B = 0 only B has a gradient
        expect(
          values.some((v) => v !== 0),
          name,
        ).toBe(name.endsWith('lora_B'));
      }
      await engine.unloadModel(modelId);
    }
  });
});
