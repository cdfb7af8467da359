/** Cases of the sampling op: one draw for every sample of a request under way. */
import { embedding } from '../../kernels/embedding/embedding';
import { philox4x32, unitFloat } from '../../kernels/philox';
import { decodeStateLayout, DONE, initialDecodeState, sample } from '../../kernels/sample/sample';
import { traceCase, type Subject } from '../case';
import { exact, near, ofSum } from '../measure';
import { SPREADS, type F32, type Random, type U32 } from '../random';
import { plausibleTokens, type SamplingRule } from './plausible';

/** The words of a random seed. */
export const seedOf = (random: Random): { readonly seed_lo: number; readonly seed_hi: number } => ({
  seed_lo: random.int(0, 2 ** 32 - 1),
  seed_hi: random.int(0, 2 ** 21 - 1),
});

/** What sampling draws for a sample of a request at one of its steps. */
export const drawOf = (
  { seed_lo, seed_hi }: { readonly seed_lo: number; readonly seed_hi: number },
  step: number,
  index: number,
): number => unitFloat(philox4x32([step, index, 0, 0], [seed_lo, seed_hi])[0]);

/** Greedy, plain, and with each limit alone and together. */
export const ruleOf = (random: Random, V: number): SamplingRule => ({
  temperature: random.pick([0, 0.3, 1, 1, 2.5]),
  top_k: random.pick([0, 0, 1, random.int(1, V), V + 3]),
  top_p: random.pick([1, 1, 0.9, 0.5, random.within(0.01, 0.99)]),
});

/** Relative error of a sum over the vocabulary of exponentials. */
export const roundingOf = (V: number): number => 2 ** -24 * (ofSum(V) + 32);

interface Samples {
  readonly state: U32;
  /** (B) */
  readonly steps: readonly number[];
  readonly done: readonly boolean[];
  readonly index: (b: number) => number;
}

/** A decode state in the midst of a request: some samples ahead of others, some at their last step, some ended. */
function samplesOf(random: Random, B: number, batch: number, max_steps: number): Samples {
  const layout = decodeStateLayout(batch);
  const first = random.int(0, 100);
  const prefixLength = random.int(1, 50);
  const starts = Array.from({ length: B }, (_, b) => ({
    index: first + b,
    prefixStart: 0,
    prefixLength,
    ownStart: prefixLength + b * max_steps,
  }));
  const state = initialDecodeState(batch, starts);
  const steps: number[] = [];
  const done: boolean[] = [];
  for (let b = 0; b < B; b++) {
    const step = random.int(0, max_steps - 1);
    const ended = random.chance(0.2);
    state[layout.steps + b] = step;
    state[layout.slots + 4 * b + 3] = ended ? 0 : step;
    if (ended) state[layout.done + b] = random.pick([DONE.stop, DONE.length]);
    steps.push(step);
    done.push(ended);
  }
  return { state, steps, done, index: (b) => first + b };
}

/** A seed for which no sample's draw lies so near an edge that either side is right. */
function clearSeed(
  random: Random,
  { steps, done, index }: Samples,
  rule: SamplingRule,
  row: (b: number) => F32,
): ReturnType<typeof seedOf> {
  for (;;) {
    const seed = seedOf(random);
    const clear = steps.every(
      (step, b) =>
        done[b] ||
        plausibleTokens(row(b), rule, drawOf(seed, step, index(b)), 0, roundingOf(row(b).length))?.size === 1,
    );
    if (clear) return seed;
  }
}

export const sampleSubject: Subject = {
  kind: 'op',
  name: sample.name,
  generate(random) {
    const [V, B, max_steps] = [random.size(300), random.int(1, 9), random.int(1, 8)];
    const batch = 2 ** Math.ceil(Math.log2(B));
    const sharedLogits = random.chance(0.3);
    const spread = random.pick(SPREADS.filter((s) => s !== 'large' && s !== 'mixed'));
    const logits = random.values((sharedLogits ? 1 : B) * V, spread, random.pick([1, 5]));
    const spoiled = random.chance(0.15);
    const drawn = ruleOf(random, V);
    // a top-p that cuts a run of equals after a whole number of them is decided by rounding
    const rule = spread === 'normal' || spread === 'small' ? drawn : { ...drawn, top_p: 1 };
    const samples = samplesOf(random, B, batch, max_steps);
    const row = (b: number): F32 => (sharedLogits ? logits : logits.subarray(b * V, (b + 1) * V));
    const seed = clearSeed(random, samples, rule, row);
    if (spoiled) random.spoil(logits, V);
    const stops = Uint32Array.from(random.ids(random.int(1, 16), V));
    const stop_count = random.int(0, stops.length);
    const roundings = ofSum(V) + 16;
    const layout = { batch, sharedLogits };
    return traceCase({
      name: sample.name,
      about: { V, B, batch, max_steps, sharedLogits, spread, spoiled, ...rule, ...seed, stop_count },
      operands: {
        rows: {
          shape: sharedLogits ? [1] : ['B'],
          data: Uint32Array.from({ length: sharedLogits ? 1 : B }, (_, b) => b),
        },
        logits: { shape: [logits.length / V, V], data: logits },
        state: { shape: [samples.state.length], data: samples.state, state: true },
        out_tokens: { shape: [batch * max_steps], data: new Uint32Array(batch * max_steps), state: true },
        out_logprobs: { shape: [batch * max_steps], data: new Float32Array(batch * max_steps), state: true },
        stop: { shape: [stops.length], data: stops },
      },
      values: { B, ...rule, ...seed, max_steps, stop_count },
      // logits are computed, as in a program; here by a copy
      apply: (trace, { rows, logits, ...others }) => {
        const { h } = trace.apply(embedding, { tokens: rows, weight: logits }, {});
        return trace.apply(sample, { ...others, logits: h }, layout);
      },
      checks: {
        // where a logit is not finite the token means nothing; the log-probability says so
        ...(!spoiled && { state: exact, out_tokens: exact }),
        out_logprobs: (ours, oracle, all) =>
          near(roundings, (i) => 1 + Math.abs(oracle[i]!))(ours, oracle, all),
      },
    });
  },
};
