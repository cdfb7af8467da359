// One chunk of an online log-sum-exp, one thread a row: no barriers, so this is the variant for software adapters.
//   max' = max(max, max_v x_v);  sum' = sum·exp(max − max') + Σ_v exp(x_v − max')
// logits: (rows, width) f32 as bits; targets: (rows, K) u32;
// state: (rows) of [max, sum, 1 if a logit was not finite, 0], ignored when params.first;
// picked: (rows, K) f32, the logits of the targets met so far;
// logprob: (rows, K) and lse: (rows), f32 as bits, final once the last chunk has been through.
// Bits, because WGSL may assume that no NaN exists (and exp(NaN) is finite on SwiftShader): a logit that is
// NaN or infinite is recognised by its exponent, and the row's results become NaN.

const EXPONENT = 0x7f800000u;
const NAN = 0x7fc00000u;

const BLOCK = 64u; // addends per partial sum: keeps the rounding of 10^5 addends near that of 10^3

@compute @workgroup_size(16)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = (wid.x + wid.y * groups.x) * 16u + lane;
  if (row >= params.rows) { return; }
  let begin = row * params.width;
  let end = begin + params.width;

  var highest = bitcast<f32>(logits[begin]);
  var broken = 0.0;
  for (var i = begin; i < end; i++) {
    let bits = logits[i];
    if ((bits & EXPONENT) == EXPONENT) { broken = 1.0; }
    highest = max(highest, bitcast<f32>(bits));
  }
  var before = vec4f(highest, 0.0, 0.0, 0.0);
  if (params.first == 0u) { before = state[row]; }
  broken = max(broken, before.z);
  let top = max(highest, before.x);

  var sum = before.y * exp(before.x - top);
  for (var block = begin; block < end; block += BLOCK) {
    var part = 0.0;
    let stop = min(block + BLOCK, end);
    for (var i = block; i < stop; i++) { part += exp(bitcast<f32>(logits[i]) - top); }
    sum += part;
  }

  let log_sum = log(sum);
  for (var at = row * params.K; at < (row + 1u) * params.K; at++) {
    let column = targets[at] - params.start; // wraps to a huge number below the chunk
    if (column < params.width) { picked[at] = bitcast<f32>(logits[begin + column]); }
    logprob[at] = select(bitcast<u32>((picked[at] - top) - log_sum), NAN, broken > 0.0);
  }
  state[row] = vec4f(top, sum, broken, 0.0);
  lse[row] = select(bitcast<u32>(top + log_sum), NAN, broken > 0.0);
}
