// Backward of logprob for one chunk of the vocabulary, in place of its logits (d_logits = …):
//   d_logits[t, v] = d_logprob[t] · (1[start + v = target[t]] − exp(logits[t, v] − lse[t]))
// lse: as bits; where it is NaN so is the gradient (exp(NaN) itself may come out finite).
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
  let scale = d_logprob[row];
  let log_sum = bitcast<f32>(lse[row]);
  let broken = (lse[row] & 0x7f800000u) == 0x7f800000u;
  let hit = targets[row] - params.start; // wraps to a huge number below the chunk
  for (var column = left; column < right; column++) {
    let at = row * params.width + column;
    // a logit never exceeds the log-sum-exp; the clamp takes away the last rounding
    let p = exp(min(logits[at] - log_sum, 0.0));
    logits[at] = select(scale * (select(0.0, 1.0, column == hit) - p), log_sum, broken);
  }
}
