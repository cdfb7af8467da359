/** Clipped policy gradient (Schulman et al. 2017, arXiv 1707.06347), summed: L = −Σ min(ρ·A, clip(ρ, lo, hi)·A). */
import { lossMap, POLICY_INPUTS } from './loss-map';
import code from './ppo.wgsl?raw';

/** Inputs and outputs as `importanceSampling`. Run values: the bounds of ρ, `clip_low_threshold` ≤ `clip_high_threshold`. */
export const ppo = lossMap({
  name: 'ppo',
  code,
  term: (l) => {
    const advantage = l.input('advantages');
    const [low, high] = [l.setting('clip_low_threshold'), l.setting('clip_high_threshold')];
    const logRatio = l.sub(l.lp, l.input('logprobs'));
    const ratio = l.ratioOf(logRatio);
    const free = l.mul(ratio, advantage);
    const clipped = l.mul(l.clamp(ratio, low, high), advantage);
    const inside = l.and(l.is(ratio, 'GreaterOrEqual', low), l.is(ratio, 'LessOrEqual', high));
    const between = l.select(inside, l.number(1), l.number(0.5));
    const outside = l.select(l.is(free, 'Less', clipped), l.number(1), l.number(0));
    const share = l.select(l.is(free, 'Equal', clipped), between, outside);
    const idle = l.is(advantage, 'Equal', l.number(0));
    // beyond f32 the clipped term is the smaller one if the advantage is positive
    const beyond = l.exceeds(logRatio);
    const capped = l.and(beyond, l.is(advantage, 'Greater', l.number(0)));
    const none = l.or(idle, capped);
    return {
      loss: l.select(idle, l.number(0), l.neg(l.select(capped, clipped, l.min(free, clipped)))),
      d: l.select(none, l.number(0), l.neg(l.mul(share, free))),
      overflow: l.and(beyond, l.not(none)),
    };
  },
  inputs: POLICY_INPUTS,
  config: ['clip_low_threshold', 'clip_high_threshold'],
});
