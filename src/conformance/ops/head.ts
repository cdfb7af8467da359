/** Cases of the head: log-probabilities of targets in chunks of the vocabulary, their backward, the likeliest ids. */
import { logprob, logprobBackward } from '../../kernels/logprob/logprob';
import type { TensorRef } from '../../kernels/op';
import { topK } from '../../kernels/topk/topk';
import { opCase, traceCase, type Operand, type Subject } from '../case';
import { exact, near, ofExp, ofSum } from '../measure';
import type { F32, Random } from '../random';

/** Logits of a vocabulary in chunks. */
interface Chunks {
  readonly T: number;
  /** columns of each chunk */
  readonly widths: readonly number[];
  /** vocabulary id of the first column of each */
  readonly starts: readonly number[];
  readonly V: number;
  readonly operands: Readonly<Record<string, Operand>>;
  readonly about: { readonly [name: string]: number | boolean | readonly number[] };
}

function chunksOf(random: Random, make: (count: number, width: number) => F32): Chunks {
  const T = random.size(65);
  const widths = Array.from({ length: random.pick([1, 1, 2, 3]) }, () => random.size(T > 40 ? 100 : 300));
  const starts = widths.map((_, i) => widths.slice(0, i).reduce((a, b) => a + b, 0));
  const V = widths.reduce((a, b) => a + b, 0);
  const operands = Object.fromEntries(
    widths.map((width, i) => [`logits${i}`, { shape: ['T', width], data: make(T * width, width) }]),
  );
  return { T, widths, starts, V, operands, about: { T, widths } };
}

/** The largest difference of two logits of a row. */
function rangeOf({ widths, operands }: Chunks, row: number): number {
  let [low, high] = [Infinity, -Infinity];
  widths.forEach((width, i) => {
    for (const x of operands[`logits${i}`]!.data.subarray(row * width, (row + 1) * width)) {
      low = Math.min(low, x);
      high = Math.max(high, x);
    }
  });
  return high - low;
}

/** Logits around a constant, flat or steep, in some cases with rows that are not finite. */
function logitsOf(random: Random) {
  const [spread, shift] = [random.pick([1, 5, 30]), random.pick([0, 0, 100, -300])];
  const spoiled = random.chance(0.25);
  const make = (count: number, width: number): F32 => {
    const logits = Float32Array.from({ length: count }, () => shift + spread * random.normal());
    return spoiled ? random.spoil(logits, width) : logits;
  };
  return { make, about: { spread, shift, spoiled } };
}

export const logprobSubject: Subject = {
  kind: 'op',
  name: logprob.name,
  generate(random) {
    const { make, about } = logitsOf(random);
    const chunks = chunksOf(random, make);
    const { T, V, starts } = chunks;
    const K = random.pick([1, 1, 2, 5]);
    const roundings = ofSum(V) + 16;
    const ranges = Array.from({ length: T }, (_, t) => rangeOf(chunks, t));
    return traceCase({
      name: logprob.name,
      about: { ...chunks.about, ...about, K },
      operands: { ...chunks.operands, targets: { shape: ['C'], data: random.ids(T * K, V) } },
      values: { T, C: T * K },
      apply(trace, refs: Readonly<Record<string, TensorRef | undefined>>) {
        let last: { state?: TensorRef; picked?: TensorRef; logprob?: TensorRef; lse?: TensorRef } = {};
        starts.forEach((start, i) => {
          const { state, picked } = last;
          const inputs = { logits: refs[`logits${i}`]!, targets: refs['targets']!, state, picked };
          last = trace.apply(logprob, inputs, { start });
        });
        return { logprob: last.logprob!, lse: last.lse! };
      },
      // differences of logits are rounded, and so is the log of a sum of at least 1; the oracle takes all logits of a
      // row relative to one of them, and rounds those differences
      checks: {
        logprob: (ours, oracle, all) => {
          const size = (i: number): number =>
            1 + Math.abs(oracle[i]!) + (2 * ranges[Math.floor(i / K)]!) / roundings;
          return near(roundings, size)(ours, oracle, all);
        },
        lse: (ours, oracle, all) =>
          near(roundings, (i) => 1 + Math.abs(oracle[i]!) + (2 * ranges[i]!) / roundings)(ours, oracle, all),
      },
    });
  },
};

export const logprobBackwardSubject: Subject = {
  kind: 'op',
  name: logprobBackward.name,
  generate(random) {
    const { make, about } = logitsOf(random);
    const [T, width, K] = [random.size(65), random.size(300), random.pick([1, 1, 2, 5])];
    const start = random.pick([0, 64, 4096]);
    const logits = make(T * width, width);
    // of a vocabulary of which this is a part; NaN where a logit is not finite
    const lse = Float32Array.from({ length: T }, (_, t) => {
      const row = logits.subarray(t * width, (t + 1) * width);
      if (!row.every(Number.isFinite)) return NaN;
      const top = row.reduce((a, b) => Math.max(a, b), -Infinity);
      return top + Math.log(row.reduce((sum, x) => sum + Math.exp(x - top), 0)) + random.pick([0, 1, 20]);
    });
    // repeated ids, and ids of other chunks
    const targets = Uint32Array.from({ length: T * K }, () =>
      random.chance(0.8) ? start + random.int(0, width - 1) : random.int(0, start + 2 * width),
    );
    const d = random.values(T * K, random.pick(['normal', 'sparse', 'large']));
    const argument = (i: number): number => Math.min(0, logits[i]! - lse[Math.floor(i / width)]!);
    const magnitude = (i: number): number => {
      const [row, id] = [Math.floor(i / width), start + (i % width)];
      let [all, hit] = [0, 0];
      for (let k = row * K; k < (row + 1) * K; k++) {
        all += Math.abs(d[k]!);
        if (targets[k] === id) hit += Math.abs(d[k]!);
      }
      return all * Math.exp(argument(i)) + hit;
    };
    return opCase(logprobBackward, {
      about: { T, width, K, start, ...about },
      inputs: {
        logits: { shape: ['T', width], data: logits },
        targets: { shape: ['C'], data: targets },
        lse: { shape: ['T'], data: lse },
        d_logprob: { shape: ['C'], data: d },
      },
      attrs: { start },
      values: { T, C: T * K },
      checks: { d_logits: near((i) => ofExp(argument(i)) + ofSum(K), magnitude) },
    });
  },
};

export const topKSubject: Subject = {
  kind: 'op',
  name: topK.name,
  generate(random) {
    const ties = random.chance(0.5);
    const chunks = chunksOf(random, (count) => random.values(count, ties ? 'ties' : 'normal', 3));
    const { T, V, starts } = chunks;
    const k = Math.min(V, random.pick([1, 2, 5, 20]));
    return traceCase({
      name: topK.name,
      about: { ...chunks.about, k, ties },
      operands: chunks.operands,
      values: { T, R: T * k },
      apply(trace, logits) {
        let last: { ids?: TensorRef; best?: TensorRef } = {};
        starts.forEach((start, i) => {
          last = trace.apply(
            topK,
            { logits: logits[`logits${i}`]!, ids: last.ids, best: last.best },
            { start },
          );
        });
        return { ids: last.ids!, best: last.best! };
      },
      // comparisons only
      checks: { ids: exact, best: exact },
    });
  },
};
