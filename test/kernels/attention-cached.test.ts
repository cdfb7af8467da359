import { describe, expect, it } from 'vitest';
import { attentionCached, kvAppend, NO_ROW } from '../../src/kernels/attention/attention-cached';
import fixture from '../fixtures/attention-cached.json?raw';
import { expectClose, randomArray } from '../support/compare';
import { unpack } from '../support/packed';
import { DEVICES, RUNNERS } from '../support/runners';

interface Case {
  heads: number;
  kv: number;
  dim: number;
  cache: number;
  slots: [number, number, number, number][];
  out: string;
}

describe('attentionCached', () => {
  for (const c of JSON.parse(fixture) as Case[]) {
    const { heads, kv, dim, cache, slots } = c;
    for (const { name, run } of RUNNERS) {
      it(`${slots.length} sequences, ${heads}/${kv} heads of ${dim}, ${name}: matches PyTorch`, async () => {
        const width = (heads + 2 * kv) * dim;
        const B = slots.length;
        const { out } = await run(
          attentionCached,
          {
            qkv: { shape: ['B', width], data: randomArray(B * width, 8) },
            cache_k: { shape: [cache, kv * dim], data: randomArray(cache * kv * dim, 9) },
            cache_v: { shape: [cache, kv * dim], data: randomArray(cache * kv * dim, 10) },
            slots: { shape: ['B', 4], data: Uint32Array.from(slots.flat()) },
          },
          { heads, kvHeads: kv, headDim: dim },
          { values: { B }, capacity: { B: B + 2 } },
        );
        expectClose(out, unpack(c.out));
      });
    }
  }
});

for (const { name, run } of DEVICES) {
  describe(`kvAppend on ${name}`, () => {
    for (const dim of [6, 20]) {
      it(`copies keys and values of heads of ${dim} to their rows and skips the others`, async () => {
        const [heads, kv, cache] = [3, 1, 9];
        const width = (heads + 2 * kv) * dim;
        const rows = [4, NO_ROW, 0, 8];
        const qkv = randomArray(rows.length * width, 1);
        const k = randomArray(cache * kv * dim, 2);
        const v = randomArray(cache * kv * dim, 3);
        const after = await run(
          kvAppend,
          {
            qkv: { shape: ['B', width], data: qkv },
            rows: { shape: ['B'], data: Uint32Array.from(rows) },
            cache_k: { shape: [cache, kv * dim], data: k },
            cache_v: { shape: [cache, kv * dim], data: v },
          },
          { heads, kvHeads: kv, headDim: dim },
          { values: { B: rows.length } },
        );
        const expectedK = k.slice();
        const expectedV = v.slice();
        rows.forEach((row, b) => {
          if (row === NO_ROW) return;
          const at = b * width + heads * dim;
          expectedK.set(qkv.subarray(at, at + kv * dim), row * kv * dim);
          expectedV.set(qkv.subarray(at + kv * dim, at + 2 * kv * dim), row * kv * dim);
        });
        expect(after.cache_k).toEqual(expectedK);
        expect(after.cache_v).toEqual(expectedV);
      });
    }
  });
}
