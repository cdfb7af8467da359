// With ρ = exp(lp − logprobs):  loss = −min(ρ·A, clip(ρ, lo, hi)·A).
// d_logprob has the subgradients of torch: clamp passes the gradient inside and on its bounds, and min splits it in
// halves between equal arguments. So inside and on the bounds it is −ρ·A; outside −ρ·A where ρ·A is the smaller, else 0.

fn term(i: u32, lp: f32) -> vec2f {
  let advantage = advantages[i];
  if (advantage == 0.0) { return vec2f(0.0); }
  let low = params.clip_low_threshold;
  let high = params.clip_high_threshold;
  let log_ratio = lp - logprobs[i];
  let ratio = ratio_of(log_ratio);
  let free = ratio * advantage;
  let clipped = clamp(ratio, low, high) * advantage;
  if (exceeds(log_ratio) && advantage > 0.0) { return vec2f(-clipped, 0.0); }
  overflow = exceeds(log_ratio);
  var share = select(0.0, 1.0, free < clipped);
  if (free == clipped) { share = select(0.5, 1.0, ratio >= low && ratio <= high); }
  return vec2f(-min(free, clipped), -share * free);
}
