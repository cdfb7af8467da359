// With x = lp − logprobs:  loss = −(lp·A − ½·β·x²);  d_logprob = −(A − β·x).

fn term(i: u32, lp: f32) -> vec2f {
  let advantage = advantages[i];
  let difference = lp - logprobs[i];
  return vec2f(
    0.5 * params.beta * difference * difference - lp * advantage,
    params.beta * difference - advantage,
  );
}
