/** Clipped importance weights without a gradient (MiniMax 2025, arXiv 2506.13585), summed: L = −Σ sg(clip(ρ, lo, hi))·lp·A. */
import code from './cispo.wgsl?raw';
import { lossMap, POLICY_INPUTS } from './loss-map';

/** Inputs, outputs and run values as `ppo`. */
export const cispo = lossMap({
  name: 'cispo',
  code,
  term: (l) => {
    const ratio = l.ratioOf(l.sub(l.lp, l.input('logprobs')));
    const clipped = l.clamp(ratio, l.setting('clip_low_threshold'), l.setting('clip_high_threshold'));
    const minus = l.neg(l.mul(clipped, l.input('advantages')));
    return { loss: l.mul(minus, l.lp), d: minus };
  },
  inputs: POLICY_INPUTS,
  config: ['clip_low_threshold', 'clip_high_threshold'],
});
