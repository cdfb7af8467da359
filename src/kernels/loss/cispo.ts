/** Clipped importance weights without a gradient (MiniMax 2025, arXiv 2506.13585), summed: L = −Σ sg(clip(ρ, lo, hi))·lp·A. */
import code from './cispo.wgsl?raw';
import { lossMap, POLICY_INPUTS } from './loss-map';

/** Inputs, outputs and run values as `ppo`. */
export const cispo = lossMap({
  name: 'cispo',
  code,
  inputs: POLICY_INPUTS,
  config: ['clip_low_threshold', 'clip_high_threshold'],
});
