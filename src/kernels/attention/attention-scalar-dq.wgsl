// Gradient of the queries, any head dimension, one invocation per (query, query head):
//   p = exp(score − lse);  delta = d_out · out;  dq = scale · Σ_j p·(d_out·v_j − delta)·k_j
// Writes (=) the q columns of d_qkv (rows, stride) and delta (rows, heads). Layouts as in attention-scalar.wgsl.

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (wid.x + wid.y * groups.x) * 64u + lane;
  if (i >= params.rows * params.heads) { return; }
  let row = i % params.rows;
  let head = i / params.rows;
  let stride = (params.heads + 2u * params.kv_heads) * HEAD_DIM;
  let q_at = row * stride + head * HEAD_DIM;
  let o_at = (row * params.heads + head) * HEAD_DIM;
  let k_column = (params.heads + head / (params.heads / params.kv_heads)) * HEAD_DIM;
  let v_column = k_column + params.kv_heads * HEAD_DIM;

  var q: array<f32, HEAD_DIM>;
  var d_o: array<f32, HEAD_DIM>;
  var acc: array<f32, HEAD_DIM>;
  var own = 0.0;
  for (var c = 0u; c < HEAD_DIM; c++) {
    q[c] = qkv[q_at + c] * params.scale;
    d_o[c] = d_out[o_at + c];
    own += d_o[c] * out[o_at + c];
  }
  let norm = lse[row * params.heads + head];
  for (var j = segments[2u * row]; j <= row; j++) {
    var score = 0.0;
    var d_p = 0.0;
    for (var c = 0u; c < HEAD_DIM; c++) {
      score += q[c] * qkv[j * stride + k_column + c];
      d_p += d_o[c] * qkv[j * stride + v_column + c];
    }
    let d_score = exp(min(score - norm, 0.0)) * (d_p - own) * params.scale;
    for (var c = 0u; c < HEAD_DIM; c++) { acc[c] += d_score * qkv[j * stride + k_column + c]; }
  }
  for (var c = 0u; c < HEAD_DIM; c++) { d_qkv[q_at + c] = acc[c]; }
  delta[row * params.heads + head] = own;
}
