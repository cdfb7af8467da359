// One chunk of an online log-sum-exp, one workgroup a row: coalesced loads and a tree in workgroup memory, for GPUs.
//   max' = max(max, max_v x_v);  sum' = sum·exp(max − max') + Σ_v exp(x_v − max')
// logits: (rows, width) f32 as bits; targets: (rows, K) u32;
// state: (rows) of [max, sum, 1 if a logit was not finite, 0], ignored when params.first;
// picked: (rows, K) f32, the logits of the targets met so far;
// logprob: (rows, K) and lse: (rows), f32 as bits, final once the last chunk has been through.
// Bits, because WGSL may assume that no NaN exists (and exp(NaN) is finite on SwiftShader): a logit that is
// NaN or infinite is recognised by its exponent, and the row's results become NaN.

const EXPONENT = 0x7f800000u;
const NAN = 0x7fc00000u;

const LANES = 128u;
var<workgroup> scratch: array<vec2f, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = wid.x + wid.y * groups.x;
  if (row >= params.rows) { return; }
  let begin = row * params.width;
  let end = begin + params.width;

  var highest = bitcast<f32>(logits[begin]);
  var flag = 0.0;
  for (var i = begin + lane; i < end; i += LANES) {
    let bits = logits[i];
    if ((bits & EXPONENT) == EXPONENT) { flag = 1.0; }
    highest = max(highest, bitcast<f32>(bits));
  }
  scratch[lane] = vec2f(highest, flag);
  workgroupBarrier();
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    if (lane < half) { scratch[lane] = max(scratch[lane], scratch[lane + half]); }
    workgroupBarrier();
  }
  highest = scratch[0].x;
  flag = scratch[0].y;
  var before = vec4f(highest, 0.0, 0.0, 0.0);
  if (params.first == 0u) { before = state[row]; }
  let broken = max(flag, before.z);
  let top = max(highest, before.x);

  var part = 0.0;
  for (var i = begin + lane; i < end; i += LANES) { part += exp(bitcast<f32>(logits[i]) - top); }
  workgroupBarrier(); // everyone has read scratch[0]
  scratch[lane].x = part;
  workgroupBarrier();
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    if (lane < half) { scratch[lane].x += scratch[lane + half].x; }
    workgroupBarrier();
  }
  let sum = before.y * exp(before.x - top) + scratch[0].x;
  let log_sum = log(sum);
  for (var k = lane; k < params.K; k += LANES) {
    let at = row * params.K + k;
    let column = targets[at] - params.start; // wraps to a huge number below the chunk
    if (column < params.width) { picked[at] = bitcast<f32>(logits[begin + column]); }
    logprob[at] = select(bitcast<u32>((picked[at] - top) - log_sum), NAN, broken > 0.0);
  }
  if (lane > 0u) { return; }
  state[row] = vec4f(top, sum, broken, 0.0);
  lse[row] = select(bitcast<u32>(top + log_sum), NAN, broken > 0.0);
}
