// Backward of logprob for one chunk of the vocabulary, in place of its logits (d_logits = …):
//   d_logits[t, v] = Σ_k d_logprob[t, k] · (1[start + v = targets[t, k]] − exp(logits[t, v] − lse[t]))
// targets, d_logprob: (rows, K); ids may repeat in a row. lse: (rows) as bits; where it is NaN so is the gradient
// (exp(NaN) itself may come out finite).
// RUN adjacent columns a thread: 1 where neighbouring lanes should touch neighbouring words (GPUs),
// more where reading the row's scalars again is what costs (software adapters).

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (wid.x + wid.y * groups.x) * 64u + lane;
  let runs = (params.width + RUN - 1u) / RUN; // per row
  let row = i / runs;
  if (row >= params.rows) { return; }
  let left = (i % runs) * RUN;
  let right = min(left + RUN, params.width);
  let bits = lse[row];
  let log_sum = bitcast<f32>(bits);
  let broken = (bits & 0x7f800000u) == 0x7f800000u;

  var scale = d_logprob[row * params.K];
  let end = (row + 1u) * params.K;
  for (var k = row * params.K + 1u; k < end; k++) { scale += d_logprob[k]; }
  // one target's only term is complete at once; those of several are added below
  let alone = select(0.0, 1.0, params.K == 1u);
  let hit = targets[row * params.K] - params.start; // wraps to a huge number below the chunk
  for (var column = left; column < right; column++) {
    let at = row * params.width + column;
    // a logit never exceeds the log-sum-exp; the clamp takes away the last rounding
    let p = exp(min(logits[at] - log_sum, 0.0));
    logits[at] = select(scale * (select(0.0, alone, column == hit) - p), log_sum, broken);
  }
  for (var k = select(end, row * params.K, params.K > 1u && !broken); k < end; k++) {
    let column = targets[k] - params.start;
    if (column >= left && column < right) { logits[row * params.width + column] += d_logprob[k]; }
  }
}
