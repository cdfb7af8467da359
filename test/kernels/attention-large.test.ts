import { describe, it } from 'vitest';
import { attention, attentionBackward } from '../../src/kernels/attention/attention';
import { expectClose, randomArray } from '../support/compare';
import { segmentsOf } from '../support/packed';
import { DEVICES } from '../support/runners';

interface Shape {
  heads: number;
  kvHeads: number;
  headDim: number;
}

/** Attention and its gradient by plain loops in f64, from the definitions. */
function reference(
  { heads, kvHeads, headDim }: Shape,
  segments: Uint32Array,
  qkv: Float32Array,
  dOut: Float32Array,
) {
  const rows = segments.length / 2;
  const stride = (heads + 2 * kvHeads) * headDim;
  const out = new Float64Array(rows * heads * headDim);
  const dQkv = new Float64Array(qkv.length);
  const scale = 1 / Math.sqrt(headDim);
  for (let t = 0; t < rows; t++) {
    const start = segments[2 * t]!;
    for (let h = 0; h < heads; h++) {
      const q = t * stride + h * headDim;
      const o = (t * heads + h) * headDim;
      const column = (heads + Math.floor(h / (heads / kvHeads))) * headDim;
      const keyOf = (n: number): number => (start + n) * stride + column;
      const p = Float64Array.from({ length: t - start + 1 }, (_, n) => {
        let score = 0;
        for (let c = 0; c < headDim; c++) score += qkv[q + c]! * qkv[keyOf(n) + c]!;
        return Math.exp(score * scale);
      });
      const sum = p.reduce((a, b) => a + b, 0);
      const v = kvHeads * headDim;
      const dp = p.map((_, n) => {
        let d = 0;
        for (let c = 0; c < headDim; c++) {
          out[o + c]! += (p[n]! / sum) * qkv[keyOf(n) + v + c]!;
          d += dOut[o + c]! * qkv[keyOf(n) + v + c]!;
        }
        return d;
      });
      const delta = dp.reduce((a, d, n) => a + (d * p[n]!) / sum, 0);
      p.forEach((weight, n) => {
        const ds = (weight / sum) * (dp[n]! - delta) * scale;
        for (let c = 0; c < headDim; c++) {
          dQkv[q + c]! += ds * qkv[keyOf(n) + c]!;
          dQkv[keyOf(n) + c]! += ds * qkv[q + c]!;
          dQkv[keyOf(n) + v + c]! += (weight / sum) * dOut[o + c]!;
        }
      });
    }
  }
  return { out, dQkv };
}

for (const { name, run } of DEVICES) {
  describe(`attention at size on ${name}`, () => {
    for (const [what, shape, lengths] of [
      ['a segment of 2,051 tokens', { heads: 2, kvHeads: 1, headDim: 8 }, [2051]],
      [
        'more workgroups than one grid dimension holds',
        { heads: 64, kvHeads: 1, headDim: 4 },
        [1, ...Array<number>(820).fill(5)],
      ],
    ] as const satisfies readonly [string, Shape, readonly number[]][]) {
      it(`${what}: matches f64`, async () => {
        const T = lengths.reduce((a, b) => a + b, 0);
        const { heads, kvHeads, headDim } = shape;
        const width = (heads + 2 * kvHeads) * headDim;
        const data = randomArray(T * width, 1);
        const dOut = randomArray(T * heads * headDim, 2);
        const segments = segmentsOf(lengths);
        const expected = reference(shape, segments, data, dOut);

        const inputs = {
          qkv: { shape: ['T', width], data },
          segments: { shape: ['T', 2], data: segments },
        };
        const { out, lse } = await run(attention, inputs, shape, { values: { T } });
        expectClose(out, expected.out, {}, 'out');
        const { d_qkv } = await run(
          attentionBackward,
          {
            ...inputs,
            out: { shape: ['T', heads * headDim], data: out },
            lse: { shape: ['T', heads], data: lse },
            d_out: { shape: ['T', heads * headDim], data: dOut },
          },
          shape,
          { values: { T } },
        );
        // keys sum over up to 2,051 queries, in f32
        expectClose(d_qkv, expected.dQkv, { atol: 2e-4, rtol: 1e-3 }, 'd_qkv');
      });
    }
  });
}
