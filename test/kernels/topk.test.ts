import { describe, expect, it } from 'vitest';
import { topK } from '../../src/kernels/topk/topk';
import { randomArray } from '../support/compare';
import { RUNNERS, type Run } from '../support/runners';
import { ranked } from '../support/sampling';

/** The k best of every row after all tiles, as the op makes them. */
async function best(
  logits: Float32Array,
  [T, V, tile, k]: readonly [number, number, number, number],
  run: Run,
) {
  let lists: { ids: Uint32Array<ArrayBuffer>; best: Float32Array<ArrayBuffer> } | undefined;
  for (let start = 0; start < V; start += tile) {
    const width = Math.min(tile, V - start);
    const data = Float32Array.from(
      { length: T * width },
      (_, i) => logits[Math.floor(i / width) * V + start + (i % width)]!,
    );
    lists = (await run(
      topK,
      {
        logits: { shape: ['T', width], data },
        ...(lists && { ids: { shape: ['R'], data: lists.ids }, best: { shape: ['R'], data: lists.best } }),
      },
      { start },
      { values: { T, R: T * k }, capacity: { T: T + 3, R: (T + 3) * k + 5 } },
    )) as typeof lists;
  }
  return lists!;
}

for (const { name, run } of RUNNERS) {
  describe(`topk (${name})`, () => {
    for (const size of [
      [1, 1, 1, 1],
      [3, 7, 7, 7],
      [17, 7, 3, 5],
      [5, 129, 64, 20],
      [2, 300, 299, 1],
      [2, 300, 100, 256],
      [33, 257, 128, 3],
      [1, 5000, 2048, 100],
    ] as const) {
      const [T, V, tile, k] = size;
      it(`the best ${k} of ${V} ids in tiles of ${tile}, ${T} rows`, async () => {
        const logits = randomArray(T * V, T + V, 4);
        const lists = await best(logits, size, run);
        for (let t = 0; t < T; t++) {
          const row = logits.subarray(t * V, (t + 1) * V);
          const expected = ranked(row).slice(0, k);
          expect([...lists.ids.subarray(t * k, (t + 1) * k)], `row ${t}`).toEqual(expected);
          expect([...lists.best.subarray(t * k, (t + 1) * k)]).toEqual(expected.map((id) => row[id]));
        }
      });
    }

    it('smaller ids come first among equals, within a tile and across', async () => {
      // five values over 200 ids
      const logits = Float32Array.from({ length: 200 }, (_, v) => (v * 7) % 5);
      const lists = await best(logits, [1, 200, 64, 90], run);
      expect([...lists.ids]).toEqual(ranked(logits).slice(0, 90));
      const same = await best(new Float32Array(200), [1, 200, 64, 70], run);
      expect([...same.ids]).toEqual(Array.from({ length: 70 }, (_, v) => v));
    });

    it('rising and falling rows', async () => {
      const logits = Float32Array.from({ length: 600 }, (_, i) => (i < 300 ? i : -i));
      const lists = await best(logits, [2, 300, 70, 4], run);
      expect([...lists.ids]).toEqual([299, 298, 297, 296, 0, 1, 2, 3]);
    });

    it('a row with NaN ends, and leaves the others alone', async () => {
      const logits = randomArray(3 * 100, 3);
      const clean = await best(logits, [3, 100, 40, 10], run);
      logits.fill(NaN, 100, 200);
      const lists = await best(logits, [3, 100, 40, 10], run);
      for (const [from, to] of [
        [0, 10],
        [20, 30],
      ] as const)
        expect(lists.ids.slice(from, to)).toEqual(clean.ids.slice(from, to));
    });
  });
}
