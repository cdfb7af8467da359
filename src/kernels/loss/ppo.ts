/** Clipped policy gradient (Schulman et al. 2017, arXiv 1707.06347), summed: L = −Σ min(ρ·A, clip(ρ, lo, hi)·A). */
import { lossMap, POLICY_INPUTS } from './loss-map';
import code from './ppo.wgsl?raw';

/** Inputs and outputs as `importanceSampling`. Run values: the bounds of ρ, `clip_low_threshold` ≤ `clip_high_threshold`. */
export const ppo = lossMap({
  name: 'ppo',
  code,
  inputs: POLICY_INPUTS,
  config: ['clip_low_threshold', 'clip_high_threshold'],
});
