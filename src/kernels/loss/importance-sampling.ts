/** Policy gradient with importance weights, summed: L = −Σ ρ·A, ρ = exp(lp − logprobs). */
import code from './importance-sampling.wgsl?raw';
import { lossMap, POLICY_INPUTS } from './loss-map';

/** logprob (C), and of the policy that sampled `logprobs` (C), advantages (C) → loss (C), d_logprob (C). */
export const importanceSampling = lossMap({
  name: 'importance-sampling',
  code,
  term: (l) => {
    const advantage = l.input('advantages');
    const logRatio = l.sub(l.lp, l.input('logprobs'));
    const idle = l.is(advantage, 'Equal', l.number(0));
    const minus = l.select(idle, l.number(0), l.neg(l.mul(l.ratioOf(logRatio), advantage)));
    return { loss: minus, d: minus, overflow: l.and(l.not(idle), l.exceeds(logRatio)) };
  },
  inputs: POLICY_INPUTS,
});
