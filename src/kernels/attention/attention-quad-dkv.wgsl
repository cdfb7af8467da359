// Gradients of the keys and values on software adapters. A quad takes four neighbouring keys of one kv head
// and walks over the query heads of its group and the later queries, four at a time, one loaded by each lane:
//   dv = Σ p·d_out;  dk = scale · Σ p·(d_out·v − delta)·q
// Writes (=) the k and v columns of d_qkv. Layouts and chunks as in attention-quad.wgsl.

fn load_d_out(at: u32, part: u32) -> Parts {
  return Parts(
    d_out[at + within(part)], d_out[at + within(part + 1u)], d_out[at + within(part + 2u)], d_out[at + within(part + 3u)],
    d_out[at + within(part + 4u)], d_out[at + within(part + 5u)], d_out[at + within(part + 6u)], d_out[at + within(part + 7u)],
  );
}

fn quad_values(x: f32) -> vec4f {
  return vec4f(quadBroadcast(x, 0u), quadBroadcast(x, 1u), quadBroadcast(x, 2u), quadBroadcast(x, 3u));
}

@compute @workgroup_size(4)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) id: u32) {
  let tiles = (params.rows + 3u) / 4u;
  let i = wid.x + wid.y * groups.x;
  if (i >= tiles * params.kv_heads) { return; }
  let lane = id % 4u;
  let kv = i / tiles;
  let first = (i % tiles) * 4u;
  let last = min(first + 3u, params.rows - 1u);
  let row = min(first + lane, last);
  let group = params.heads / params.kv_heads;
  let stride = (params.heads + 2u * params.kv_heads) * PARTS;
  let k_at = row * stride + (params.heads + kv) * PARTS;
  let v_at = k_at + params.kv_heads * PARTS;
  let chunk = wid.z * CHUNK;

  let k = scaled(load_qkv(k_at, 0u), 0u, params.scale);
  let v = scaled(load_qkv(v_at, 0u), 0u, 1.0);
  let end = segments[2u * row + 1u];
  let stop = segments[2u * last + 1u];
  var dk = Parts();
  var dv = Parts();
  for (var head = kv * group; head < (kv + 1u) * group; head++) {
    for (var t = first; t < stop; t += 4u) {
      let mine = min(t + lane, params.rows - 1u);
      let q_at = mine * stride + head * PARTS;
      let o_at = (mine * params.heads + head) * PARTS;
      let q = load_qkv(q_at, 0u);
      let d_o = load_d_out(o_at, 0u);
      var score = quad_dots(k, q);
      var d_p = quad_dots(v, d_o);
      for (var part = CHUNK; part < PARTS; part += CHUNK) {
        score += quad_dots(scaled(load_qkv(k_at, part), part, params.scale), load_qkv(q_at, part));
        d_p += quad_dots(scaled(load_qkv(v_at, part), part, 1.0), load_d_out(o_at, part));
      }
      let norm = quad_values(lse[mine * params.heads + head]);
      let own = quad_values(delta[mine * params.heads + head]);
      let query = vec4u(t, t + 1u, t + 2u, t + 3u);
      let seen = (query >= vec4u(row)) & (query < vec4u(end));
      let p = select(vec4f(), exp(min(score - norm, vec4f())), seen);
      let d_score = p * (d_p - own);
      if (PARTS <= CHUNK) {
        dv = quad_sum(dv, 1.0, d_o, p);
        dk = quad_sum(dk, 1.0, q, d_score);
      } else {
        dv = quad_sum(dv, 1.0, load_d_out(o_at, chunk), p);
        dk = quad_sum(dk, 1.0, load_qkv(q_at, chunk), d_score);
      }
    }
  }

  if (first + lane > last) { return; }
  let ks = scaled(dk, chunk, params.scale);
  let dk_at = k_at + chunk;
  d_qkv[dk_at] = ks.a;
  if (chunk + 1u < PARTS) { d_qkv[dk_at + 1u] = ks.b; }
  if (chunk + 2u < PARTS) { d_qkv[dk_at + 2u] = ks.c; }
  if (chunk + 3u < PARTS) { d_qkv[dk_at + 3u] = ks.d; }
  if (chunk + 4u < PARTS) { d_qkv[dk_at + 4u] = ks.e; }
  if (chunk + 5u < PARTS) { d_qkv[dk_at + 5u] = ks.f; }
  if (chunk + 6u < PARTS) { d_qkv[dk_at + 6u] = ks.g; }
  if (chunk + 7u < PARTS) { d_qkv[dk_at + 7u] = ks.h; }
  let dv_at = v_at + chunk;
  d_qkv[dv_at] = dv.a;
  if (chunk + 1u < PARTS) { d_qkv[dv_at + 1u] = dv.b; }
  if (chunk + 2u < PARTS) { d_qkv[dv_at + 2u] = dv.c; }
  if (chunk + 3u < PARTS) { d_qkv[dv_at + 3u] = dv.d; }
  if (chunk + 4u < PARTS) { d_qkv[dv_at + 4u] = dv.e; }
  if (chunk + 5u < PARTS) { d_qkv[dv_at + 5u] = dv.f; }
  if (chunk + 6u < PARTS) { d_qkv[dv_at + 6u] = dv.g; }
  if (chunk + 7u < PARTS) { d_qkv[dv_at + 7u] = dv.h; }
}
