// loss = −w·lp;  d_logprob = −w

fn term(i: u32, lp: f32) -> vec2f {
  let w = weights[i];
  return vec2f(-w * lp, -w);
}
