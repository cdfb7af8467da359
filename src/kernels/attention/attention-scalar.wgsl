// Causal attention of any head dimension, one invocation per (query, query head); the
// softmax is kept running (Milakov & Gimelshein 2018, arXiv 1805.02867), so no scores are stored.
// qkv: (rows, stride) f32, heads [q … | k … | v …]; segments: (rows, 2) u32 [start, end);
// out: (rows, heads·HEAD_DIM) f32; lse: (rows, heads) f32, natural log of Σ exp(score).

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (wid.x + wid.y * groups.x) * 64u + lane;
  if (i >= params.rows * params.heads) { return; }
  let row = i % params.rows;
  let head = i / params.rows;
  let stride = (params.heads + 2u * params.kv_heads) * HEAD_DIM;
  let q_at = row * stride + head * HEAD_DIM;
  let k_column = (params.heads + head / (params.heads / params.kv_heads)) * HEAD_DIM;
  let v_column = k_column + params.kv_heads * HEAD_DIM;

  var q: array<f32, HEAD_DIM>;
  var acc: array<f32, HEAD_DIM>;
  for (var c = 0u; c < HEAD_DIM; c++) { q[c] = qkv[q_at + c] * params.scale; }
  var top = -1e30;
  var sum = 0.0;
  for (var j = segments[2u * row]; j <= row; j++) {
    var score = 0.0;
    for (var c = 0u; c < HEAD_DIM; c++) { score += q[c] * qkv[j * stride + k_column + c]; }
    let higher = max(top, score);
    let keep = exp(top - higher);
    let p = exp(score - higher);
    for (var c = 0u; c < HEAD_DIM; c++) { acc[c] = acc[c] * keep + p * qkv[j * stride + v_column + c]; }
    sum = sum * keep + p;
    top = higher;
  }
  for (var c = 0u; c < HEAD_DIM; c++) { out[(row * params.heads + head) * HEAD_DIM + c] = acc[c] / sum; }
  lse[row * params.heads + head] = top + log(sum);
}
