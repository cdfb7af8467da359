/** Direct reward optimisation (Richemond et al. 2024, arXiv 2405.19107), summed: L = −Σ (lp·A − ½·β·(lp − logprobs)²). */
import code from './dro.wgsl?raw';
import { lossMap, POLICY_INPUTS } from './loss-map';

/** Inputs and outputs as `importanceSampling`. Run value: `beta` ≥ 0, the weight of the square. */
export const dro = lossMap({
  name: 'dro',
  code,
  term: (l) => {
    const advantage = l.input('advantages');
    const difference = l.sub(l.lp, l.input('logprobs'));
    const pull = l.mul(l.setting('beta'), difference);
    const square = l.mul(l.number(0.5), l.mul(pull, difference));
    return { loss: l.sub(square, l.mul(l.lp, advantage)), d: l.sub(pull, advantage) };
  },
  inputs: POLICY_INPUTS,
  config: ['beta'],
});
