// Gradients of the keys and values, any head dimension, one invocation per (key, kv head), over the
// query heads of its group and the later queries of its segment:
//   dv = Σ p·d_out;  dk = scale · Σ p·(d_out·v − delta)·q
// Writes (=) the k and v columns of d_qkv. Layouts as in attention-scalar.wgsl.

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (wid.x + wid.y * groups.x) * 64u + lane;
  if (i >= params.rows * params.kv_heads) { return; }
  let row = i % params.rows;
  let kv = i / params.rows;
  let stride = (params.heads + 2u * params.kv_heads) * HEAD_DIM;
  let k_at = row * stride + (params.heads + kv) * HEAD_DIM;
  let v_at = k_at + params.kv_heads * HEAD_DIM;
  let group = params.heads / params.kv_heads;

  var k: array<f32, HEAD_DIM>;
  var v: array<f32, HEAD_DIM>;
  var dk: array<f32, HEAD_DIM>;
  var dv: array<f32, HEAD_DIM>;
  for (var c = 0u; c < HEAD_DIM; c++) {
    k[c] = qkv[k_at + c] * params.scale;
    v[c] = qkv[v_at + c];
  }
  let end = segments[2u * row + 1u];
  for (var head = kv * group; head < (kv + 1u) * group; head++) {
    for (var t = row; t < end; t++) {
      let q_at = t * stride + head * HEAD_DIM;
      let o_at = (t * params.heads + head) * HEAD_DIM;
      var score = 0.0;
      var d_p = 0.0;
      for (var c = 0u; c < HEAD_DIM; c++) {
        score += k[c] * qkv[q_at + c];
        d_p += v[c] * d_out[o_at + c];
      }
      let p = exp(min(score - lse[t * params.heads + head], 0.0));
      let d_score = p * (d_p - delta[t * params.heads + head]) * params.scale;
      for (var c = 0u; c < HEAD_DIM; c++) {
        dv[c] += p * d_out[o_at + c];
        dk[c] += d_score * qkv[q_at + c];
      }
    }
  }
  for (var c = 0u; c < HEAD_DIM; c++) {
    d_qkv[k_at + c] = dk[c];
    d_qkv[v_at + c] = dv[c];
  }
}
