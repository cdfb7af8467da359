// With ρ = exp(lp − logprobs) and c = clip(ρ, lo, hi), which no gradient passes:  loss = −c·lp·A;  d_logprob = −c·A.

fn term(i: u32, lp: f32) -> vec2f {
  let clipped = clamp(ratio_of(lp - logprobs[i]), params.clip_low_threshold, params.clip_high_threshold);
  let weight = clipped * advantages[i];
  return vec2f(-weight * lp, -weight);
}
