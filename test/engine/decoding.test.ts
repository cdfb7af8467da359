/** Generation against transformers, against full forward passes, and against its own distribution. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { SampledSequencePayload, SamplingParamsPayload } from '../../src/api/contract/types';
import type { Engine } from '../../src/engine/engine';
import { decoderOf } from '../../src/engine/tokenizer';
import { expectClose } from '../support/compare';
import {
  createModel,
  createSampler,
  crossEntropy,
  datum,
  DEVICE,
  FIXTURE_NAMES,
  GREEDY,
  loadFixture,
  nextTokenLogprobs,
  openEngine,
  type Fixture,
} from '../support/engine';

let engine: Engine;
let tied: Fixture;
beforeAll(async () => {
  engine = await openEngine();
  tied = await loadFixture('tied');
});
afterAll(() => engine?.dispose());

/** log-probabilities may differ by float32 rounding only: the cache and the full pass sum in other orders */
const CLOSE = { atol: 1e-4, rtol: 0 };
const SAMPLE: SamplingParamsPayload = { ...GREEDY, temperature: 1, seed: 1 };

async function generate(
  samplerId: string,
  prompt: readonly number[],
  params: Partial<SamplingParamsPayload> = {},
  numSamples = 1,
): Promise<readonly SampledSequencePayload[]> {
  const request = {
    samplerId,
    prompt,
    numSamples,
    params: { ...SAMPLE, ...params },
    promptLogprobs: false,
    topkPromptLogprobs: 0,
  };
  return (await engine.sample(request)).sequences;
}

/** log p of `tokens` after `prompt`, from one full forward pass. */
async function scored(
  modelId: string,
  prompt: readonly number[],
  tokens: readonly number[],
): Promise<Float32Array> {
  const whole = [...prompt, ...tokens];
  const { logprobs } = await crossEntropy(engine, modelId, [datum(whole.slice(0, -1), whole.slice(1))], true);
  return logprobs[0]!.subarray(prompt.length - 1);
}

for (const name of FIXTURE_NAMES) {
  it(`${name}: greedy decoding is that of transformers, for the base model and for an adapter`, async () => {
    const fixture = await loadFixture(name);
    const modelId = await createModel(engine, fixture);
    const samplers = {
      base: await createSampler(engine, { base: name }),
      adapted: await createSampler(engine, { modelId }),
    };
    for (const kind of ['base', 'adapted'] as const) {
      const { prompt, tokens, logprobs } = fixture.greedy[kind];
      const [got] = await generate(samplers[kind], prompt, GREEDY);
      expect(got!.tokens, kind).toEqual(tokens);
      expectClose(got!.logprobs, logprobs, CLOSE, `${kind} logprobs`);
      expect(got!.stopReason, kind).toBe(tokens.at(-1) === fixture.eosTokenId ? 'stop' : 'length');
    }
    await engine.unloadModel(modelId);
  });
}

describe('the key/value cache', () => {
  it('decodes greedily what full forward passes do', async () => {
    const fixture = await loadFixture('llama3-rope');
    const modelId = await createModel(engine, fixture);
    const samplerId = await createSampler(engine, { modelId });
    const prompt = fixture.batch[0]!.tokens.slice(0, 9);
    const [cached] = await generate(samplerId, prompt, { ...GREEDY, maxTokens: 24 });
    const tokens: number[] = [];
    for (let i = 0; i < 24; i++) {
      const logprobs = await nextTokenLogprobs(engine, modelId, [...prompt, ...tokens], fixture.vocabSize);
      const best = logprobs.indexOf(Math.max(...logprobs));
      expectClose([cached!.logprobs[i]!], [logprobs[best]!], CLOSE, `token ${i}`);
      tokens.push(best);
    }
    expect(cached!.tokens).toEqual(tokens);
  });

  it('gives sampled tokens the log-probabilities of a later full pass, sample by sample', async () => {
    const modelId = await createModel(engine, tied);
    const samplerId = await createSampler(engine, { modelId });
    for (const prompt of [tied.batch[2]!.tokens, tied.batch[1]!.tokens]) {
      const samples = await generate(samplerId, prompt, { maxTokens: 40 }, 5);
      expect(samples).toHaveLength(5);
      expect(new Set(samples.map((s) => s.tokens.join())).size).toBe(5);
      for (const [i, { tokens, logprobs }] of samples.entries()) {
        expectClose(logprobs, await scored(modelId, prompt, tokens), CLOSE, `sample ${i}`);
        // and so say prompt log-probabilities
        const request = {
          samplerId,
          prompt: [...prompt, ...tokens],
          numSamples: 1,
          params: { ...SAMPLE, maxTokens: 1 },
        };
        const { promptLogprobs } = await engine.sample({
          ...request,
          promptLogprobs: true,
          topkPromptLogprobs: 0,
        });
        expectClose(
          promptLogprobs!.slice(prompt.length) as number[],
          logprobs,
          CLOSE,
          `prompt logprobs ${i}`,
        );
      }
    }
  });

  it('keeps samplers of different adapters apart when they run at once', async () => {
    const first = await createModel(engine, tied);
    const second = await createModel(engine, tied, null);
    const samplers = [
      await createSampler(engine, { modelId: first }),
      await createSampler(engine, { modelId: second }),
      await createSampler(engine, { base: 'tied' }),
    ];
    const prompt = tied.batch[3]!.tokens;
    const alone = [];
    for (const samplerId of samplers) alone.push(await generate(samplerId, prompt, { maxTokens: 30 }, 2));
    const atOnce = await Promise.all(
      samplers.map((samplerId) => generate(samplerId, prompt, { maxTokens: 30 }, 2)),
    );
    expect(atOnce).toEqual(alone);
    expect(alone[1]).toEqual(alone[2]); // B = 0 is the base
    expect(alone[0]).not.toEqual(alone[2]);
  });

  it('samples from a snapshot: later training does not change it', async () => {
    const modelId = await createModel(engine, tied);
    const samplerId = await createSampler(engine, { modelId });
    const { prompt } = tied.greedy.adapted;
    const before = await generate(samplerId, prompt, GREEDY);
    await crossEntropy(engine, modelId, tied.batch);
    await engine.optimStep({
      modelId,
      adamParams: { learningRate: 0.1, beta1: 0.9, beta2: 0.95, eps: 1e-12, weightDecay: 0, gradClipNorm: 0 },
    });
    expect(await generate(samplerId, prompt, GREEDY)).toEqual(before);
    const later = await createSampler(engine, { modelId });
    expect(await generate(later, prompt, GREEDY)).not.toEqual(before);
  });
});

describe('prompt log-probabilities', () => {
  it('start with null and are those of a forward pass at temperature 1', async () => {
    const modelId = await createModel(engine, tied);
    const samplerId = await createSampler(engine, { modelId });
    const prompt = tied.batch[3]!.tokens;
    const params = { ...SAMPLE, maxTokens: 1, temperature: 0.3 };
    const { promptLogprobs } = await engine.sample({
      samplerId,
      prompt,
      numSamples: 1,
      params,
      promptLogprobs: true,
      topkPromptLogprobs: 0,
    });
    expect(promptLogprobs).toHaveLength(prompt.length);
    expect(promptLogprobs![0]).toBeNull();
    expectClose(
      promptLogprobs!.slice(1) as number[],
      await scored(modelId, prompt.slice(0, 1), prompt.slice(1)),
      CLOSE,
    );
    const one = await engine.sample({
      samplerId,
      prompt: [3],
      numSamples: 1,
      params,
      promptLogprobs: true,
      topkPromptLogprobs: 0,
    });
    expect(one.promptLogprobs).toEqual([null]);
    const none = await engine.sample({
      samplerId,
      prompt,
      numSamples: 1,
      params,
      promptLogprobs: false,
      topkPromptLogprobs: 0,
    });
    expect(none.promptLogprobs).toBeNull();
  });
});

/** Probabilities after temperature, then top-k, then top-p over what is left; the formula of transformers' warpers. */
function truncated(logprobs: Float64Array, { temperature, topK, topP }: SamplingParamsPayload): Float64Array {
  const scaled = softmax(logprobs.map((l) => l / temperature));
  const order = [...scaled.keys()].sort((a, b) => scaled[b]! - scaled[a]!);
  const kept = new Float64Array(scaled.length);
  const k = topK === -1 ? order.length : topK;
  const total = order.slice(0, k).reduce((sum, i) => sum + scaled[i]!, 0);
  let before = 0;
  for (const i of order.slice(0, k)) {
    if (before >= topP) break; // the token that crosses top-p is still kept
    kept[i] = scaled[i]!;
    before += scaled[i]! / total;
  }
  const left = kept.reduce((a, b) => a + b, 0);
  return kept.map((p) => p / left);
}

function softmax(logits: Float64Array): Float64Array {
  const most = Math.max(...logits);
  const exp = logits.map((l) => Math.exp(l - most));
  const total = exp.reduce((a, b) => a + b, 0);
  return exp.map((e) => e / total);
}

/**
 * Pearson's chi-squared of counts against probabilities, cells expected fewer
 * than 5 times pooled, as a standard normal deviate (Wilson and Hilferty 1931).
 */
function chiSquaredDeviate(counts: ArrayLike<number>, p: ArrayLike<number>, total: number): number {
  let [chi, cells, restCount, restExpected] = [0, 0, 0, 0];
  const add = (count: number, expected: number): void => {
    chi += (count - expected) ** 2 / expected;
    cells++;
  };
  for (let i = 0; i < p.length; i++) {
    const expected = p[i]! * total;
    if (expected >= 5) add(counts[i]!, expected);
    else [restCount, restExpected] = [restCount + counts[i]!, restExpected + expected];
  }
  if (restExpected > 0) add(restCount, restExpected);
  const df = cells - 1;
  if (df === 0) return 0;
  return (Math.cbrt(chi / df) - (1 - 2 / (9 * df))) / Math.sqrt(2 / (9 * df));
}

describe('the distribution of samples', () => {
  const SETTINGS: Partial<SamplingParamsPayload>[] = [
    { temperature: 1 },
    { temperature: 0.5 },
    { temperature: 2 },
    { temperature: 1, topK: 5 },
    { temperature: 1.5, topK: 1 },
    { temperature: 1, topP: 0.7 },
    { temperature: 1.5, topK: 8, topP: 0.8 },
    { temperature: 0.7, topP: 0.05 },
  ];
  const COUNT = 2048;
  let fixture: Fixture;
  let modelId: string;
  let samplerId: string;
  let prompt: readonly number[];
  let exact: Float64Array;
  beforeAll(async () => {
    fixture = await loadFixture('llama3-rope');
    modelId = await createModel(engine, fixture);
    samplerId = await createSampler(engine, { modelId });
    prompt = fixture.batch[0]!.tokens.slice(0, 5);
    exact = await nextTokenLogprobs(engine, modelId, prompt, fixture.vocabSize);
  });

  for (const setting of SETTINGS) {
    it(`${JSON.stringify(setting)}: ${COUNT} samples match the exact one`, async () => {
      const params = { ...SAMPLE, ...setting, maxTokens: 1, seed: 7 };
      const p = truncated(exact, params);
      const scaled = softmax(exact.map((l) => l / params.temperature));
      const samples = await generate(samplerId, prompt, params, COUNT);
      const counts = new Float64Array(fixture.vocabSize);
      for (const { tokens, logprobs } of samples) {
        const token = tokens[0]!;
        counts[token]!++;
        expect(p[token], `token ${token} is cut off`).toBeGreaterThan(0);
        // reported under the temperature-scaled distribution, before top-k and top-p
        expect(Math.abs(logprobs[0]! - Math.log(scaled[token]!))).toBeLessThan(1e-4);
      }
      // the seed is fixed, so this cannot flicker: 4 deviations are 3 in 100,000
      expect(Math.abs(chiSquaredDeviate(counts, p, COUNT))).toBeLessThan(4);
    });
  }

  it('holds for pairs of tokens, the second from the cache', async () => {
    const params = { ...SAMPLE, temperature: 1.2, topK: 3, maxTokens: 2, seed: 11 };
    const first = truncated(exact, params);
    const joint = new Map<string, number>();
    for (const [a, pa] of first.entries()) {
      if (pa === 0) continue;
      const next = truncated(
        await nextTokenLogprobs(engine, modelId, [...prompt, a], fixture.vocabSize),
        params,
      );
      for (const [b, pb] of next.entries()) if (pb > 0) joint.set(`${a},${b}`, pa * pb);
    }
    expect(joint.size).toBe(9);
    const samples = await generate(samplerId, prompt, params, COUNT);
    const counts = new Map<string, number>();
    for (const { tokens } of samples) counts.set(tokens.join(), (counts.get(tokens.join()) ?? 0) + 1);
    for (const key of counts.keys()) expect(joint.has(key), key).toBe(true);
    const deviate = chiSquaredDeviate(
      [...joint.keys()].map((key) => counts.get(key) ?? 0),
      [...joint.values()],
      COUNT,
    );
    expect(Math.abs(deviate)).toBeLessThan(4);
  });

  it('is reproduced by a seed, and differs between seeds and within a request', async () => {
    const params = { ...SAMPLE, maxTokens: 16 };
    const run = async (seed: number | null): Promise<string> =>
      JSON.stringify(await generate(samplerId, prompt, { ...params, seed }, 3));
    expect(await run(5)).toBe(await run(5));
    const runs = await Promise.all([5, 6, -5, 2 ** 32 + 5, null, null].map(run));
    expect(new Set(runs).size).toBe(runs.length);
    const samples = await generate(samplerId, prompt, params, 8);
    expect(new Set(samples.map((s) => s.tokens.join())).size).toBe(8);
    // a request for fewer samples gives the first of them
    const fewer = await generate(samplerId, prompt, params, 3);
    expect(fewer.map((s) => s.tokens)).toEqual(samples.slice(0, 3).map((s) => s.tokens));
    // ONNX Runtime rounds otherwise when more are decoded side by side
    if (DEVICE === 'webgpu') expect(fewer).toEqual(samples.slice(0, 3));
    fewer.forEach((s, i) => expectClose(s.logprobs, samples[i]!.logprobs, CLOSE, `sample ${i}`));
  });
});

describe('where a sequence ends', () => {
  let samplerId: string;
  let prompt: readonly number[];
  let whole: readonly number[];
  let text: (tokens: readonly number[]) => string;
  beforeAll(async () => {
    // no end-of-sequence token: only what a test asks for stops it
    samplerId = await createSampler(engine, { base: 'untied' });
    prompt = (await loadFixture('untied')).greedy.base.prompt;
    whole = (await generate(samplerId, prompt, { ...GREEDY, maxTokens: 20 }))[0]!.tokens;
    text = decoderOf(await engine.getTokenizer('untied'));
  });

  it('max_tokens', async () => {
    for (const maxTokens of [1, 2, 7, 20]) {
      const [got] = await generate(samplerId, prompt, { ...GREEDY, maxTokens });
      expect(got).toMatchObject({ stopReason: 'length', tokens: whole.slice(0, maxTokens) });
      expect(got!.logprobs).toHaveLength(maxTokens);
    }
  });

  it('the context, when max_tokens is null', async () => {
    const { maxPositionEmbeddings } = await loadFixture('untied');
    const [got] = await generate(samplerId, prompt, { ...GREEDY, maxTokens: null });
    expect(got!.stopReason).toBe('length');
    expect(prompt.length + got!.tokens.length).toBe(maxPositionEmbeddings);
    expect(got!.tokens.slice(0, 20)).toEqual(whole);
  });

  it('a stop token, included in the output', async () => {
    for (const at of [0, 3, 11]) {
      const token = whole[at]!;
      const expected = whole.slice(0, whole.indexOf(token) + 1);
      const [got] = await generate(samplerId, prompt, { ...GREEDY, maxTokens: 20, stopTokens: [96, token] });
      expect(got).toMatchObject({ stopReason: 'stop', tokens: expected });
      expect(got!.logprobs).toHaveLength(expected.length);
    }
  });

  it('a stop string, found across token boundaries, its last token included', async () => {
    const letters = text(whole);
    expect(letters.length).toBeGreaterThan(whole.length); // some tokens are two letters
    for (let from = 0; from + 3 <= letters.length; from += 2) {
      const stop = letters.slice(from, from + 3);
      let count = 1;
      while (!text(whole.slice(0, count)).includes(stop)) count++;
      const params = { ...GREEDY, maxTokens: 20, stopStrings: ['not there', stop] };
      const [got] = await generate(samplerId, prompt, params);
      expect(got, stop).toMatchObject({ stopReason: 'stop', tokens: whole.slice(0, count) });
      expect(got!.logprobs).toHaveLength(count);
    }
  });

  it('each sample of a request at its own place', async () => {
    const free = await generate(samplerId, prompt, { maxTokens: 30, seed: 3 }, 6);
    const stopTokens = [free[0]!.tokens[4]!, free[1]!.tokens[20]!];
    const got = await generate(samplerId, prompt, { maxTokens: 30, seed: 3, stopTokens }, 6);
    got.forEach(({ tokens, stopReason }, i) => {
      const at = free[i]!.tokens.findIndex((t) => stopTokens.includes(t));
      expect(tokens).toEqual(free[i]!.tokens.slice(0, at < 0 ? 30 : at + 1));
      expect(stopReason).toBe(at < 0 ? 'length' : 'stop');
    });
    expect(new Set(got.map((s) => s.tokens.length)).size).toBeGreaterThan(1);
  });
});
