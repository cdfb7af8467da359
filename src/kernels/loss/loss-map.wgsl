// What all losses share: one element a thread. A loss's own file, put before this one, defines
//   fn term(i: u32, lp: f32) -> vec2f     the element's term of the sum, and the sum's derivative by lp
// logprob, loss, d_logprob: (count) f32 as bits, because WGSL may assume that no NaN and no infinity exists:
// where the log-probability, the term or the derivative is one, or `overflow` was set, both results are NaN.

const EXPONENT = 0x7f800000u;
const NAN = 0x7fc00000u;
const LARGEST_EXPONENT = 88.72283; // exp of more exceeds f32

/** Set by a `term` that depends on a ratio beyond f32. */
var<private> overflow = false;

/** Whether exp(log_ratio) exceeds f32. */
fn exceeds(log_ratio: f32) -> bool { return log_ratio > LARGEST_EXPONENT; }

/** exp, the largest f32 at most, and exactly 1 at 0: there implementations differ in the last place, and clipping bounds may lie there. */
fn ratio_of(log_ratio: f32) -> f32 {
  return select(exp(min(log_ratio, LARGEST_EXPONENT)), 1.0, log_ratio == 0.0);
}

fn broken(bits: u32) -> bool { return (bits & EXPONENT) == EXPONENT; }

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (wid.x + wid.y * groups.x) * 64u + lane;
  if (i >= params.count) { return; }
  let lp = logprob[i];
  let out = bitcast<vec2u>(term(i, bitcast<f32>(lp)));
  let bad = overflow || broken(lp) || broken(out.x) || broken(out.y);
  loss[i] = select(out.x, NAN, bad);
  d_logprob[i] = select(out.y, NAN, bad);
}
