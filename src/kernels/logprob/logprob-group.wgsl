// One chunk of an online log-sum-exp, one workgroup a row: coalesced loads and a tree in workgroup memory, for GPUs.
//   max' = max(max, max_v x_v);  sum' = sum·exp(max − max') + Σ_v exp(x_v − max')
// logits: (rows, width) f32; targets: (rows) u32; state: (rows) of [max, sum, target logit, –], ignored when params.first.
// logprob, lse: (rows) f32, final once the last chunk has been through.

const LANES = 128u;
var<workgroup> scratch: array<f32, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = wid.x + wid.y * groups.x;
  if (row >= params.rows) { return; }
  let begin = row * params.width;
  let end = begin + params.width;

  var highest = logits[begin];
  for (var i = begin + lane; i < end; i += LANES) { highest = max(highest, logits[i]); }
  scratch[lane] = highest;
  workgroupBarrier();
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    if (lane < half) { scratch[lane] = max(scratch[lane], scratch[lane + half]); }
    workgroupBarrier();
  }
  highest = scratch[0];
  var before = vec4f(highest, 0.0, 0.0, 0.0);
  if (params.first == 0u) { before = state[row]; }
  let top = max(highest, before.x);

  var part = 0.0;
  for (var i = begin + lane; i < end; i += LANES) { part += exp(logits[i] - top); }
  workgroupBarrier(); // everyone has read scratch[0]
  scratch[lane] = part;
  workgroupBarrier();
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    if (lane < half) { scratch[lane] += scratch[lane + half]; }
    workgroupBarrier();
  }
  if (lane > 0u) { return; }

  let sum = before.y * exp(before.x - top) + scratch[0];
  var target_logit = before.z;
  let column = targets[row] - params.start; // wraps to a huge number below the chunk
  if (column < params.width) { target_logit = logits[begin + column]; }

  let log_sum = log(sum);
  state[row] = vec4f(top, sum, target_logit, 0.0);
  logprob[row] = (target_logit - top) - log_sum;
  lse[row] = top + log_sum;
}
