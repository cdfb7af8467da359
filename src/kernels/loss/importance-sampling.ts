/** Policy gradient with importance weights, summed: L = −Σ ρ·A, ρ = exp(lp − logprobs). */
import code from './importance-sampling.wgsl?raw';
import { lossMap, POLICY_INPUTS } from './loss-map';

/** logprob (C), and of the policy that sampled `logprobs` (C), advantages (C) → loss (C), d_logprob (C). */
export const importanceSampling = lossMap({ name: 'importance-sampling', code, inputs: POLICY_INPUTS });
