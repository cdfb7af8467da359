import { describe, expect, it } from 'vitest';
import { attention, attentionBackward } from '../../src/kernels/attention/attention';
import fixture from '../fixtures/attention.json?raw';
import { expectClose, randomArray } from '../support/compare';
import { segmentsOf, unpack } from '../support/packed';
import { onWebGpu, RUNNERS, type Run } from '../support/runners';

interface Case {
  heads: number;
  kv: number;
  dim: number;
  lengths: number[];
  scale: number | null;
  out: string;
  lse: string;
  d_qkv: string;
}

const total = (lengths: readonly number[]): number => lengths.reduce((a, b) => a + b, 0);
const BACKWARD = { atol: 1e-4, rtol: 1e-3 };

type Attrs = { heads: number; kvHeads: number; headDim: number; scale?: number };

/** Forward, then backward from the forward's own results. */
async function both(
  attrs: Attrs,
  lengths: readonly number[],
  data: Float32Array<ArrayBuffer>,
  dOut: Float32Array<ArrayBuffer>,
  run: Run,
) {
  const T = total(lengths);
  const options = { values: { T }, capacity: { T: T + 70 } };
  const qkv = { shape: ['T', (attrs.heads + 2 * attrs.kvHeads) * attrs.headDim], data };
  const segments = { shape: ['T', 2], data: segmentsOf(lengths) };
  const f = await run(attention, { qkv, segments }, attrs, options);
  const out = { shape: ['T', attrs.heads * attrs.headDim], data: f.out };
  const lse = { shape: ['T', attrs.heads], data: f.lse };
  const b = await run(
    attentionBackward,
    { qkv, segments, out, lse, d_out: { shape: out.shape, data: dOut } },
    attrs,
    options,
  );
  return { out: f.out, lse: f.lse, d_qkv: b.d_qkv };
}

/** The tiled kernels of GPUs take seconds to compile on a software adapter: whole, partial and many chunks do. */
const TILED = [2, 6, 20, 64, 256];

describe('attention', () => {
  for (const c of JSON.parse(fixture) as Case[]) {
    const { heads, kv, dim, lengths } = c;
    for (const { kind, name, run } of RUNNERS) {
      if (kind === 'gpu' && !TILED.includes(dim)) continue;
      it(`${heads}/${kv} heads of ${dim}, segments ${lengths.join('+')}, ${name}: matches PyTorch`, async () => {
        const T = total(lengths);
        const attrs = { heads, kvHeads: kv, headDim: dim, ...(c.scale !== null && { scale: c.scale }) };
        const data = randomArray(T * (heads + 2 * kv) * dim, 6);
        const dOut = randomArray(T * heads * dim, 7);
        const r = await both(attrs, lengths, data, dOut, run);
        expectClose(r.out, unpack(c.out), {}, 'out');
        expectClose(r.lse, unpack(c.lse), {}, 'lse');
        expectClose(r.d_qkv, unpack(c.d_qkv), BACKWARD, 'd_qkv');
      });
    }
  }

  for (const { name, run } of RUNNERS) {
    it(`on ${name}: a segment's results do not depend on its neighbours, and repeat bit for bit`, async () => {
      const attrs = { heads: 4, kvHeads: 2, headDim: 20 };
      const lengths = [3, 65, 1, 18];
      const [T, width, wide] = [total(lengths), 160, 80];
      const data = randomArray(T * width, 11);
      const dOut = randomArray(T * wide, 12);
      const packed = await both(attrs, lengths, data, dOut, run);
      const again = await both(attrs, lengths, data, dOut, run);
      expect(again).toEqual(packed);
      let start = 0;
      for (const n of lengths) {
        const alone = await both(
          attrs,
          [n],
          data.slice(start * width, (start + n) * width),
          dOut.slice(start * wide, (start + n) * wide),
          run,
        );
        const part = (all: ArrayLike<number>, w: number) => Array.from(all).slice(start * w, (start + n) * w);
        expectClose(alone.out, part(packed.out, wide), { atol: 1e-6, rtol: 1e-5 }, 'out');
        expectClose(alone.lse, part(packed.lse, 4), { atol: 1e-6, rtol: 1e-5 }, 'lse');
        expectClose(alone.d_qkv, part(packed.d_qkv, width), { atol: 1e-6, rtol: 1e-5 }, 'd_qkv');
        start += n;
      }
    });
  }

  it('does without quad operations where the adapter has none', async () => {
    const c = (JSON.parse(fixture) as Case[]).find(({ dim }) => dim === 20)!;
    const T = total(c.lengths);
    const r = await both(
      { heads: c.heads, kvHeads: c.kv, headDim: c.dim },
      c.lengths,
      randomArray(T * (c.heads + 2 * c.kv) * c.dim, 6),
      randomArray(T * c.heads * c.dim, 7),
      onWebGpu({ kind: 'software', subgroups: false }),
    );
    expectClose(r.out, unpack(c.out), {}, 'out');
    expectClose(r.d_qkv, unpack(c.d_qkv), BACKWARD, 'd_qkv');
  });

  it('refuses sizes the kernels cannot take', async () => {
    const run = (heads: number, kvHeads: number, headDim: number, columns: number) =>
      onWebGpu({})(
        attention,
        {
          qkv: { shape: ['T', columns], data: new Float32Array(columns) },
          segments: { shape: ['T', 2], data: Uint32Array.of(0, 1) },
        },
        { heads, kvHeads, headDim },
        { values: { T: 1 } },
      );
    await expect(run(1, 1, 3, 9)).rejects.toThrow(/head dimension 3/);
    await expect(run(3, 2, 4, 28)).rejects.toThrow(/3 query heads/);
    await expect(run(2, 1, 4, 12)).rejects.toThrow(/12 columns/);
  });
});
