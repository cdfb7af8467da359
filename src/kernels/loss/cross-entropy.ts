/** Weighted cross-entropy, summed: L = Σ −w·lp. */
import code from './cross-entropy.wgsl?raw';
import { lossMap } from './loss-map';

/** logprob (C), weights (C) → loss (C) = −w·lp, d_logprob (C) = −w. Weights may be negative or fractional. */
export const crossEntropy = lossMap({
  name: 'cross-entropy',
  code,
  term: (l) => {
    const minus = l.neg(l.input('weights'));
    return { loss: l.mul(minus, l.lp), d: minus };
  },
  inputs: [{ name: 'weights', dtype: 'f32' }],
});
