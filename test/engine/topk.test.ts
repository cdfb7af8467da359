/** The likeliest tokens at each place of a prompt, against the distributions of full forward passes. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { SamplePayload } from '../../src/api/contract/types';
import type { Engine } from '../../src/engine/engine';
import { expectClose } from '../support/compare';
import {
  createModel,
  createSampler,
  GREEDY,
  loadFixture,
  nextTokenLogprobs,
  openEngine,
  rolesOf,
  type Fixture,
} from '../support/engine';
import { ranked } from '../support/sampling';

const K = 5;

for (const role of rolesOf({ kind: 'gpu', subgroups: true })) {
  describe(`the likeliest tokens of a prompt${role ? `, on a ${role.kind} adapter` : ''}`, () => {
    let engine: Engine;
    let fixture: Fixture;
    let modelId: string;
    let samplerId: string;
    beforeAll(async () => {
      engine = await openEngine({ role });
      fixture = await loadFixture('grouped-odd');
      modelId = await createModel(engine, fixture);
      samplerId = await createSampler(engine, { modelId });
    });
    afterAll(() => engine?.dispose());

    const sample = (
      prompt: readonly number[],
      topkPromptLogprobs: number,
      promptLogprobs = false,
    ): Promise<SamplePayload> =>
      engine.sample({
        samplerId,
        prompt,
        numSamples: 1,
        params: { ...GREEDY, maxTokens: 1 },
        promptLogprobs,
        topkPromptLogprobs,
      });

    it('are those of the whole distribution, best first', async () => {
      const prompt = [...fixture.batch[2]!.tokens];
      const { topkPromptLogprobs: topk, promptLogprobs } = await sample(prompt, K);
      expect(promptLogprobs).toBeNull();
      expect(topk!.k).toBe(K);
      expect([topk!.tokenIds.length, topk!.logprobs.length]).toEqual([prompt.length * K, prompt.length * K]);
      expect([...topk!.tokenIds.subarray(0, K)]).toEqual([0, 0, 0, 0, 0]);
      expect([...topk!.logprobs.subarray(0, K)]).toEqual(Array(K).fill(-99999));
      for (const place of [1, 2, 9, prompt.length - 1]) {
        const all = await nextTokenLogprobs(engine, modelId, prompt.slice(0, place), fixture.vocabSize);
        const best = ranked(all).slice(0, K);
        const cells = [place * K, (place + 1) * K] as const;
        expect([...topk!.tokenIds.subarray(...cells)], `place ${place}`).toEqual(best);
        expectClose(
          topk!.logprobs.subarray(...cells),
          best.map((id) => all[id]!),
          { atol: 2e-5, rtol: 0 },
        );
      }
    });

    it('are found for the base model too, and beside the log-probabilities of the prompt', async () => {
      const { prompt, tokens, logprobs } = fixture.greedy.base;
      const base = await createSampler(engine, { base: fixture.name });
      const whole = [...prompt, ...tokens];
      const out = await engine.sample({
        samplerId: base,
        prompt: whole,
        numSamples: 1,
        params: { ...GREEDY, maxTokens: 1 },
        promptLogprobs: true,
        topkPromptLogprobs: 2,
      });
      expect(out.promptLogprobs).toHaveLength(whole.length);
      tokens.forEach((token, i) => {
        // what was chosen greedily is the likeliest
        const place = prompt.length + i;
        expect(out.topkPromptLogprobs!.tokenIds[2 * place]).toBe(token);
        expectClose([out.topkPromptLogprobs!.logprobs[2 * place]!], [logprobs[i]!], { atol: 1e-4, rtol: 0 });
        expectClose([out.promptLogprobs![place]!], [logprobs[i]!], { atol: 1e-4, rtol: 0 });
      });
    });

    it('are the whole vocabulary and empty cells when more are asked for', async () => {
      const prompt = [3, 1, 4];
      const V = fixture.vocabSize;
      const { topkPromptLogprobs: topk } = await sample(prompt, V + 9);
      for (let place = 1; place < prompt.length; place++) {
        const at = place * (V + 9);
        const ids = [...topk!.tokenIds.subarray(at, at + V)];
        expect(new Set(ids).size).toBe(V);
        const mass = topk!.logprobs.subarray(at, at + V).reduce((s, x) => s + Math.exp(x), 0);
        expectClose([mass], [1], { atol: 1e-5, rtol: 0 });
        expect([...topk!.tokenIds.subarray(at + V, at + V + 9)]).toEqual(Array(9).fill(0));
        expect([...topk!.logprobs.subarray(at + V, at + V + 9)]).toEqual(Array(9).fill(-99999));
      }
    });

    it('are none where none are asked for, and empty at the one place of a prompt of one', async () => {
      expect((await sample([1, 2, 3], 0)).topkPromptLogprobs).toBeNull();
      const { topkPromptLogprobs: topk, promptLogprobs } = await sample([7], 3, true);
      expect(promptLogprobs).toEqual([null]);
      expect([...topk!.tokenIds, ...topk!.logprobs]).toEqual([0, 0, 0, -99999, -99999, -99999]);
    });

    it('repeat bit for bit, and do not disturb the sample', async () => {
      const prompt = [...fixture.batch[3]!.tokens];
      const first = await sample(prompt, K, true);
      expect(await sample(prompt, K, true)).toEqual(first);
      expect((await sample(prompt, 0)).sequences).toEqual(first.sequences);
    });
  });
}
