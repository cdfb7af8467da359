import { describe, expect, it } from 'vitest';
import { embedding } from '../../src/kernels/embedding/embedding';
import { randomArray } from '../support/compare';
import { DEVICES } from '../support/runners';

for (const { name, run } of DEVICES) {
  describe(`embedding on ${name}`, () => {
    for (const [rows, vocabulary, width] of [
      [1, 1, 1],
      [65, 10, 7],
      [130, 33, 20],
    ] as const) {
      it(`gathers ${rows} rows of ${vocabulary} × ${width}`, async () => {
        const tokens = Uint32Array.from({ length: rows }, (_, i) => (i * 7) % vocabulary);
        const weight = randomArray(vocabulary * width, 1);
        const { h } = await run(
          embedding,
          { tokens: { shape: ['T'], data: tokens }, weight: { shape: [vocabulary, width], data: weight } },
          {},
          { values: { T: rows }, capacity: { T: rows + 3 } },
        );
        expect([...h]).toEqual([...tokens].flatMap((t) => [...weight.subarray(t * width, (t + 1) * width)]));
      });
    }
  });
}
