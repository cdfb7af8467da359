import { describe, expect, it } from 'vitest';
import { logprob, logprobBackward } from '../../src/kernels/logprob/logprob';
import { expectClose, randomArray } from '../support/compare';
import { RUNNERS } from '../support/runners';

/** Columns [start, start + width) of a row-major (rows, columns) matrix. */
function columnsOf(
  matrix: Float32Array,
  columns: number,
  start: number,
  width: number,
): Float32Array<ArrayBuffer> {
  const rows = matrix.length / columns;
  const out = new Float32Array(rows * width);
  for (let r = 0; r < rows; r++) {
    out.set(matrix.subarray(r * columns + start, r * columns + start + width), r * width);
  }
  return out;
}

/** f64 log-probabilities (T, K), log-sum-exp (T), and gradient of Σ d·logprob by the logits (T, V). */
function reference(T: number, logits: Float32Array, targets: Uint32Array, d: Float32Array) {
  const V = logits.length / T;
  const K = targets.length / T;
  const lp = new Float64Array(T * K);
  const lse = new Float64Array(T);
  const grad = new Float64Array(T * V);
  for (let t = 0; t < T; t++) {
    const row = logits.subarray(t * V, (t + 1) * V);
    const top = row.reduce((a, x) => Math.max(a, x), -Infinity);
    lse[t] = top + Math.log(row.reduce((s, x) => s + Math.exp(x - top), 0));
    for (let i = t * K; i < (t + 1) * K; i++) {
      lp[i] = row[targets[i]!]! - lse[t]!;
      row.forEach((x, v) => {
        grad[t * V + v]! += d[i]! * ((v === targets[i] ? 1 : 0) - Math.exp(x - lse[t]!));
      });
    }
  }
  return { lp, lse, grad };
}

for (const { name, run: runOp } of RUNNERS) {
  describe(`logprob (${name})`, () => {
    for (const [T, V, tile, K] of [
      [1, 1, 1, 1],
      [3, 7, 7, 1],
      [17, 7, 3, 1],
      [5, 255, 255, 1],
      [16, 256, 256, 1],
      [15, 257, 257, 1],
      [33, 257, 64, 1],
      [2, 300, 299, 1],
      [1, 5000, 2048, 1],
      [1, 1, 1, 3],
      [17, 7, 3, 2],
      [15, 257, 64, 20],
      [3, 300, 299, 130],
    ] as const) {
      it(`${T} tokens, ${V} ids in tiles of ${tile}, ${K} targets`, async () => {
        const logits = randomArray(T * V, T + V, 4);
        for (let t = 0; t < T; t++) for (let v = 0; v < V; v++) logits[t * V + v]! += 20 * (t % 3);
        // the first and the last id, and more targets than ids have repeats
        const targets = Uint32Array.from({ length: T * K }, (_, i) => [0, V - 1, (i * 31) % V][i % 3]!);
        const d = randomArray(T * K, 5);
        const expected = reference(T, logits, targets, d);
        const C = T * K;
        const options = { values: { T, C }, capacity: { T: T + 3, C: C + 7 } };
        const ids = { shape: ['C'], data: targets };

        let carried: Record<string, { shape: (string | number)[]; data: Float32Array<ArrayBuffer> }> = {};
        let result: Record<string, unknown> = {};
        for (let start = 0; start < V; start += tile) {
          const width = Math.min(tile, V - start);
          const chunk = { shape: ['T', width], data: columnsOf(logits, V, start, width) };
          result = await runOp(logprob, { logits: chunk, targets: ids, ...carried }, { start }, options);
          const { state, picked } = result as Record<string, Float32Array<ArrayBuffer>>;
          carried = { state: { shape: ['T', 4], data: state! }, picked: { shape: ['C'], data: picked! } };
        }
        expectClose(result.logprob as Float32Array, expected.lp, { atol: 2e-6, rtol: 1e-6 }, 'logprob');
        expectClose(result.lse as Float32Array, expected.lse, { atol: 2e-6, rtol: 1e-6 }, 'lse');

        const lse = { shape: ['T'], data: Float32Array.from(expected.lse) };
        for (let start = 0; start < V; start += tile) {
          const width = Math.min(tile, V - start);
          const { d_logits } = await runOp(
            logprobBackward,
            {
              logits: { shape: ['T', width], data: columnsOf(logits, V, start, width) },
              targets: ids,
              lse,
              d_logprob: { shape: ['C'], data: d },
            },
            { start },
            options,
          );
          const grad = columnsOf(Float32Array.from(expected.grad), V, start, width);
          // lse is an f32 near 40 here: half its last place is 2e-6 of the softmax, once for each target
          const close = { atol: K === 1 ? 1e-6 : 3e-6 * Math.sqrt(K), rtol: 1e-5 };
          expectClose(d_logits, grad, close, `d_logits from ${start}`);
        }
      });
    }

    for (const bad of [NaN, Infinity, -Infinity]) {
      it(`a logit of ${bad} makes its row NaN, forward and backward, and no other`, async () => {
        const data = randomArray(3 * 70, 1);
        data[70 + 33] = bad;
        const logits = { shape: [3, 70], data };
        const targets = { shape: [3], data: Uint32Array.of(1, 2, 3) };
        const out = await runOp(logprob, { logits, targets }, { start: 0 });
        expect(Array.from(out.logprob, Number.isNaN)).toEqual([false, true, false]);
        const back = await runOp(
          logprobBackward,
          {
            logits,
            targets,
            lse: { shape: [3], data: out.lse },
            d_logprob: { shape: [3], data: Float32Array.of(1, 1, 1) },
          },
          { start: 0 },
        );
        back.d_logits.forEach((x, i) => expect(Number.isNaN(x)).toBe(i >= 70 && i < 140));
      });
    }

    it('keeps its precision over 200,000 ids and repeats bit for bit', async () => {
      const V = 200_000;
      const logits = randomArray(V, 9, 0.5);
      const targets = Uint32Array.of(123_456);
      const run = () =>
        runOp(
          logprob,
          { logits: { shape: [1, V], data: logits }, targets: { shape: [1], data: targets } },
          { start: 0 },
        );
      const first = await run();
      expectClose(first.logprob, reference(1, logits, targets, new Float32Array(1)).lp, {
        atol: 4e-6,
        rtol: 0,
      });
      expect((await run()).logprob).toEqual(first.logprob);
    });
  });
}
