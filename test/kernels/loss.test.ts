import { describe, expect, it } from 'vitest';
import { LOSSES } from '../../src/kernels/loss';
import { randomArray } from '../support/compare';
import { runOp } from '../support/gpu';

describe('cross_entropy', () => {
  for (const T of [1, 63, 64, 65, 1000]) {
    it(`${T} tokens`, async () => {
      const logprob = randomArray(T, 1, 5).map((x) => -Math.abs(x));
      const weights = randomArray(T, 2).map((w, t) => (t % 4 === 0 ? 0 : w));
      const { loss, d_logprob } = await runOp(
        LOSSES.cross_entropy.op,
        { logprob: { shape: ['T'], data: logprob }, weights: { shape: ['T'], data: weights } },
        {},
        { values: { T }, capacity: { T: T + 70 } },
      );
      // one f32 product and a sign: exact, and exactly 0 where the weight is (x + 0 makes −0 a 0)
      const expected = logprob.map((lp, t) => -weights[t]! * lp + 0);
      expect(loss.map((x) => x + 0)).toEqual(expected);
      expect(d_logprob.map((x) => x + 0)).toEqual(weights.map((w) => -w + 0));
    });
  }
});
