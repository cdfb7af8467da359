import { describe, expect, it } from 'vitest';
import { philox4x32, PHILOX_USE, seedWords, unitFloat } from '../../src/kernels/philox';
import {
  DONE,
  NO_ROW,
  decodeStateLayout,
  initialDecodeState,
  sample,
  type SampleValues,
} from '../../src/kernels/sample/sample';
import { expectClose, randomArray } from '../support/compare';
import { RUNNERS, type Runner } from '../support/runners';
import {
  chiSquareExcess,
  logSoftmax,
  ranked,
  samplingDistribution,
  type SamplingRule,
} from '../support/sampling';

type F32 = Float32Array<ArrayBuffer>;
type U32 = Uint32Array<ArrayBuffer>;

const SEED = 0x1234_5678_9abc;
const [seed_lo, seed_hi] = seedWords(SEED);
const GREEDY: SamplingRule = { temperature: 0, topK: 0, topP: 1 };

interface Draw {
  readonly on: Runner;
  readonly logits: F32;
  readonly vocabulary: number;
  readonly state: U32;
  /** samples in flight, and capacity */
  readonly B: number;
  readonly batch: number;
  readonly rule: SamplingRule;
  readonly shared?: boolean;
  readonly max_steps?: number;
  readonly stop?: U32;
  readonly outputs?: { tokens: U32; logprobs: F32 };
}

async function draw({ on, logits, vocabulary, state, B, batch, rule, ...rest }: Draw) {
  const { shared = false, max_steps = 1, stop = Uint32Array.of(0) } = rest;
  const values = {
    B,
    temperature: rule.temperature,
    top_k: rule.topK,
    top_p: rule.topP,
    seed_lo,
    seed_hi,
    max_steps,
    stop_count: rest.stop?.length ?? 0,
  } satisfies SampleValues & { B: number };
  const room = { shape: [batch * max_steps] };
  const out = await on.run(
    sample,
    {
      logits: { shape: [shared ? 1 : 'B', vocabulary], data: logits },
      state: { shape: [state.length], data: state },
      out_tokens: { ...room, data: rest.outputs?.tokens ?? new Uint32Array(batch * max_steps) },
      out_logprobs: { ...room, data: rest.outputs?.logprobs ?? new Float32Array(batch * max_steps) },
      stop: { shape: [stop.length], data: stop },
    },
    { batch, sharedLogits: shared },
    { values, capacity: { B: batch } },
  );
  return { state: out.state as U32, tokens: out.out_tokens as U32, logprobs: out.out_logprobs as F32 };
}

/** Samples 0 … n−1 of a request, all at the prompt's end. */
const starts = (n: number) =>
  Array.from({ length: n }, (_, index) => ({
    index,
    prefixStart: 0,
    prefixLength: 9,
    ownStart: 9 + 40 * index,
  }));

/** Logits with many exact ties: multiples of 1/2, and zeros of both signs. */
const tied = (n: number, seed: number): F32 =>
  randomArray(n, seed, 2).map((x) => (Math.round(2 * x) / 2 === 0 && x < 0 ? -0 : Math.round(2 * x) / 2));

/** A top-p halfway between the masses of n − 1 and n of the kept tokens, so that rounding cannot decide. */
function topPKeeping(logits: F32, temperature: number, topK: number, n: number): number {
  const p = samplingDistribution(logits, { temperature, topK, topP: 1 });
  const mass = ranked(logits)
    .slice(0, n)
    .map((id) => p[id]!);
  const all = mass.reduce((a, b) => a + b, 0);
  return all - mass.at(-1)! / 2;
}

/** The mass below each id. */
function cumulative(distribution: Float64Array): Float64Array {
  const below = new Float64Array(distribution.length + 1);
  distribution.forEach((p, id) => (below[id + 1] = below[id]! + p));
  return below;
}

for (const on of RUNNERS) {
  describe(`sample (${on.name})`, () => {
    for (const V of [1, 2, 7, 15, 16, 17, 255, 256, 257, 4097]) {
      it(`greedy over ${V} ids: the lowest of the largest, with its log-probability at temperature 1`, async () => {
        const B = 3;
        const logits = tied(B * V, V);
        const out = await draw({
          on,
          logits,
          vocabulary: V,
          state: initialDecodeState(5, starts(B)),
          B,
          batch: 5,
          rule: GREEDY,
        });
        for (let b = 0; b < B; b++) {
          const row = logits.slice(b * V, (b + 1) * V);
          const token = ranked(row)[0]!;
          expect(out.tokens[b]).toBe(token);
          expectClose([out.logprobs[b]!], [logSoftmax(row, 1)[token]!], { atol: 2e-6, rtol: 1e-6 });
        }
      });
    }

    for (const [V, temperature, topK, keep] of [
      [7, 1, 0, 0],
      [300, 0.7, 0, 0],
      [300, 1, 5, 0],
      [300, 1.5, 200, 0],
      [300, 1, 0, 1],
      [300, 1, 0, 40],
      [300, 0.3, 0, 17],
      [257, 1, 60, 33],
      [257, 2, 60, 60],
      [257, 1, 1000, 3],
      [64, 1, 1, 1],
      [5000, 1, 900, 700],
      [151_936, 1, 0, 0],
      [151_936, 1, 0, 50],
    ] as const) {
      it(`${V} ids with ties, temperature ${temperature}, top-k ${topK}, top-p for ${keep || 'all'}: each draw as the oracle's`, async () => {
        // wide workgroups are slow on a software adapter
        const B = V > 10_000 ? 8 : on.kind === 'gpu' ? 48 : 128;
        const logits = tied(V, V + topK);
        const topP = keep ? topPKeeping(logits, temperature, topK, keep) : 1;
        const rule = { temperature, topK, topP };
        const distribution = samplingDistribution(logits, rule);
        if (keep) expect(distribution.filter((p) => p > 0).length).toBe(keep);
        const state = initialDecodeState(B, starts(B));
        const out = await draw({ on, logits, vocabulary: V, state, B, batch: B, rule, shared: true });
        const logp = logSoftmax(logits, temperature);
        const below = cumulative(distribution);
        for (let b = 0; b < B; b++) {
          const [word] = philox4x32([0, b, 0, PHILOX_USE.sample], [seed_lo, seed_hi]);
          const unit = unitFloat(word);
          const token = out.tokens[b]!;
          // inverse CDF: the draw lies in the token's stretch, up to the rounding of f32 sums
          expect(distribution[token]).toBeGreaterThan(0);
          expect(unit).toBeGreaterThan(below[token]! - 2e-6);
          expect(unit).toBeLessThan(below[token + 1]! + 2e-6);
          expectClose([out.logprobs[b]!], [logp[token]!], { atol: 3e-6, rtol: 1e-6 });
        }
      });
    }

    it('keeps the books: tokens, positions, rows, lengths, stops and limits', async () => {
      const [B, batch, V, max_steps] = [3, 4, 11, 3];
      const layout = decodeStateLayout(batch);
      let state = initialDecodeState(batch, starts(B));
      let outputs = {
        tokens: new Uint32Array(batch * max_steps).fill(77),
        logprobs: new Float32Array(batch * max_steps),
      };
      // greedy tokens by step and sample; 10 is a stop: sample 1 ends at its second token, sample 2 at its last
      const script = [
        [1, 2, 3],
        [4, 10, 5],
        [6, 7, 10],
        [8, 8, 8],
      ];
      const expected = [
        { done: [0, 0, 0], rows: [9, 49, 89], own: [1, 1, 1], steps: [1, 1, 1], positions: [9, 9, 9] },
        {
          done: [0, DONE.stop, 0],
          rows: [10, NO_ROW, 90],
          own: [2, 0, 2],
          steps: [2, 2, 2],
          positions: [10, 10, 10],
        },
        {
          done: [DONE.length, DONE.stop, DONE.stop],
          rows: [NO_ROW, NO_ROW, NO_ROW],
          own: [0, 0, 0],
          steps: [3, 2, 3],
          positions: [11, 10, 11],
        },
      ];
      for (const [s, tokens] of script.entries()) {
        const logits = new Float32Array(batch * V);
        tokens.forEach((token, b) => (logits[b * V + token] = 9));
        const stop = Uint32Array.of(9, 10);
        const before = state;
        const out = await draw({
          on,
          logits,
          vocabulary: V,
          state,
          B,
          batch,
          rule: GREEDY,
          max_steps,
          stop,
          outputs,
        });
        state = out.state;
        outputs = { tokens: out.tokens, logprobs: out.logprobs };
        const part = (offset: number) => Array.from(state.subarray(offset, offset + B));
        const now = expected[Math.min(s, 2)]!;
        expect(part(layout.done)).toEqual(now.done);
        expect(part(layout.rows)).toEqual(now.rows);
        expect(part(layout.steps)).toEqual(now.steps);
        expect(part(layout.positions)).toEqual(now.positions);
        for (let b = 0; b < B; b++) {
          const slot = Array.from(state.subarray(layout.slots + 4 * b, layout.slots + 4 * b + 4));
          expect(slot).toEqual([0, 9, 9 + 40 * b, now.own[b]]);
          if (before[layout.done + b] === DONE.running) expect(state[layout.tokens + b]).toBe(tokens[b]);
        }
        // the place without a sample stays empty
        expect(state[layout.rows + B]).toBe(NO_ROW);
        expect(state[layout.steps + B]).toBe(0);
      }
      expect(Array.from(outputs.tokens)).toEqual([1, 4, 6, 2, 10, 77, 3, 5, 10, 77, 77, 77]);
    });

    it('a draw depends on seed, index and step only, not on the batch', async () => {
      const [V, max_steps] = [500, 4];
      const logits = randomArray(V, 3);
      const rule = { temperature: 1, topK: 0, topP: 0.95 };
      const at = async (indices: readonly number[], step: number) => {
        const batch = indices.length;
        const layout = decodeStateLayout(batch);
        const state = initialDecodeState(
          batch,
          indices.map((index) => ({ ...starts(1)[0]!, index })),
        );
        state.fill(step, layout.steps, layout.steps + batch);
        const out = await draw({
          on,
          logits,
          vocabulary: V,
          state,
          B: batch,
          batch,
          rule,
          shared: true,
          max_steps,
        });
        return indices.map((_, b) => out.tokens[b * max_steps + step]);
      };
      const together = await at([0, 1, 2, 3, 4, 5, 6, 7], 0);
      expect(new Set(together).size).toBeGreaterThan(4);
      expect(await at([5], 0)).toEqual([together[5]]);
      expect(await at([7, 2], 0)).toEqual([together[7], together[2]]);
      expect(await at([0, 1, 2, 3, 4, 5, 6, 7], 1)).not.toEqual(together);
      expect(await at([0, 1, 2, 3, 4, 5, 6, 7], 0)).toEqual(together);
    });

    it('logits that are not finite make the log-probability NaN, and the token is still an id', async () => {
      const V = 40;
      const logits = randomArray(V, 1);
      const state = initialDecodeState(1, starts(1));
      const rules = [GREEDY, { temperature: 1, topK: 3, topP: 0.9 }];
      for (const [bad, rule] of [NaN, Infinity, -Infinity].flatMap((x) =>
        rules.map((r) => [x, r] as const),
      )) {
        logits[7] = bad;
        const out = await draw({ on, logits, vocabulary: V, state, B: 1, batch: 1, rule });
        expect(out.tokens[0]).toBeLessThan(V);
        expect(out.logprobs[0]).toBeNaN();
      }
    });
  });
}

for (const on of RUNNERS) {
  // wide workgroups take minutes for so many on a software adapter
  if (on.kind === 'gpu') continue;
  describe(`sample (${on.name}), 24,000 draws`, () => {
    for (const rule of [
      { temperature: 1, topK: 0, topP: 1 },
      { temperature: 0.5, topK: 0, topP: 1 },
      { temperature: 2, topK: 20, topP: 1 },
      { temperature: 1, topK: 0, topP: 0.8 },
      { temperature: 1.3, topK: 30, topP: 0.7 },
    ]) {
      it(`temperature ${rule.temperature}, top-k ${rule.topK}, top-p ${rule.topP}: follow the exact distribution`, async () => {
        // 3,000 samples at each of 8 steps
        const [V, max_steps, B] = [60, 8, 24_000];
        const layout = decodeStateLayout(B);
        const state = initialDecodeState(
          B,
          Array.from({ length: B }, (_, b) => ({ ...starts(1)[0]!, index: b >> 3 })),
        );
        for (let b = 0; b < B; b++) state[layout.steps + b] = b % max_steps;
        const logits = randomArray(V, 8, 1.5);
        const out = await draw({
          on,
          logits,
          vocabulary: V,
          state,
          B,
          batch: B,
          rule,
          shared: true,
          max_steps,
        });
        const counts = new Array<number>(V).fill(0);
        for (let b = 0; b < B; b++) counts[out.tokens[b * max_steps + (b % max_steps)]!]!++;
        // 4 standard deviations: a right sampler fails a given seed once in some thousand, and the seed is fixed
        expect(chiSquareExcess(counts, samplingDistribution(logits, rule))).toBeLessThan(4);
        // and the test can tell: the plain distribution at another temperature does not fit
        const other = samplingDistribution(logits, { ...rule, temperature: rule.temperature * 1.5 });
        expect(chiSquareExcess(counts, other)).toBeGreaterThan(10);
      });
    }
  });
}
