// With ρ = exp(lp − logprobs):  loss = −ρ·A;  d_logprob = −ρ·A.  0 where A is, however large ρ.

fn term(i: u32, lp: f32) -> vec2f {
  let advantage = advantages[i];
  if (advantage == 0.0) { return vec2f(0.0); }
  let log_ratio = lp - logprobs[i];
  overflow = exceeds(log_ratio);
  let weighted = ratio_of(log_ratio) * advantage;
  return vec2f(-weighted, -weighted);
}
