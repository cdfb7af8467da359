import { describe, expect, it } from 'vitest';
import { gradientGuard, lossFault } from '../../src/kernels/loss/guard';
import { randomArray } from '../support/compare';
import { DEVICES } from '../support/runners';

for (const { name, run } of DEVICES) {
  describe(`the guard of the gradient on ${name}`, () => {
    for (const C of [1, 63, 64, 65, 1000]) {
      it(`finds one of ${C} terms that is not finite, and keeps what was found before`, async () => {
        const found = async (data: Float32Array<ArrayBuffer>, before: number) => {
          const inputs = {
            loss: { shape: ['C'], data },
            fault: { shape: [1], data: Uint32Array.of(before) },
          };
          return [...(await run(lossFault, inputs, {}, { values: { C } })).fault];
        };
        const terms = randomArray(C, 1, 1e30);
        expect(await found(terms, 0)).toEqual([0]);
        expect(await found(terms, 1)).toEqual([1]);
        for (const bad of [NaN, Infinity, -Infinity]) {
          const broken = terms.slice();
          broken[Math.floor(C / 2)] = bad;
          expect(await found(broken, 0)).toEqual([1]);
        }
      });
    }

    for (const P of [1, 65, 5000]) {
      const grads = randomArray(P, 2);
      const saved = randomArray(P, 3);
      grads[0] = NaN;
      for (const [what, fault, has_saved, last, expected] of [
        ['keeps the gradient without a fault', 0, 1, 1, grads],
        ['restores what was saved', 1, 1, 1, saved],
        ['clears where nothing was saved', 1, 0, 1, new Float32Array(P)],
        ['waits for the last batch', 1, 1, 0, grads],
        ['waits for the last batch with nothing saved', 1, 0, 0, grads],
      ] as const) {
        it(`${what}: ${P} elements, bit for bit`, async () => {
          const before = has_saved ? saved : saved.map(() => NaN);
          const inputs = {
            grads: { shape: ['P'], data: grads },
            saved: { shape: ['P'], data: before },
            fault: { shape: [1], data: Uint32Array.of(fault) },
          };
          const after = await run(gradientGuard, inputs, {}, { values: { P, has_saved, last } });
          expect(after.grads).toEqual(expected);
        });
      }
    }
  });
}
