// Gradient of the queries on software adapters; quads and layouts as in attention-quad.wgsl:
//   p = exp(score − lse);  delta = d_out · out;  dq = scale · Σ_j p·(d_out·v_j − delta)·k_j
// Writes (=) the q columns of d_qkv and delta (rows, heads).

fn load_d_out(at: u32, part: u32) -> Parts {
  return Parts(
    d_out[at + within(part)], d_out[at + within(part + 1u)], d_out[at + within(part + 2u)], d_out[at + within(part + 3u)],
    d_out[at + within(part + 4u)], d_out[at + within(part + 5u)], d_out[at + within(part + 6u)], d_out[at + within(part + 7u)],
  );
}

@compute @workgroup_size(4)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) id: u32) {
  let tiles = (params.rows + 3u) / 4u;
  let i = wid.x + wid.y * groups.x;
  if (i >= tiles * params.heads) { return; }
  let lane = id % 4u;
  let head = i / tiles;
  let first = (i % tiles) * 4u;
  let last = min(first + 3u, params.rows - 1u);
  let row = min(first + lane, last);
  let stride = (params.heads + 2u * params.kv_heads) * PARTS;
  let k_column = (params.heads + head / (params.heads / params.kv_heads)) * PARTS;
  let v_column = k_column + params.kv_heads * PARTS;
  let chunk = wid.z * CHUNK;

  let start = segments[2u * row];
  let norm = lse[row * params.heads + head];
  let q_at = row * stride + head * PARTS;
  let o_at = (row * params.heads + head) * PARTS;
  let q = scaled(load_qkv(q_at, 0u), 0u, params.scale);
  let d_o = scaled(load_d_out(o_at, 0u), 0u, 1.0);
  var own = 0.0;
  for (var c = 0u; c < PARTS; c++) { own += dot(d_out[o_at + c], out[o_at + c]); }
  var acc = Parts();
  for (var j = segments[2u * first]; j <= last; j += 4u) {
    let at = min(j + lane, last) * stride;
    let k = load_qkv(at + k_column, 0u);
    var score = quad_dots(q, k);
    var d_p = quad_dots(d_o, load_qkv(at + v_column, 0u));
    for (var part = CHUNK; part < PARTS; part += CHUNK) {
      score += quad_dots(scaled(load_qkv(q_at, part), part, params.scale), load_qkv(at + k_column, part));
      d_p += quad_dots(scaled(load_d_out(o_at, part), part, 1.0), load_qkv(at + v_column, part));
    }
    let key = vec4u(j, j + 1u, j + 2u, j + 3u);
    let seen = (key >= vec4u(start)) & (key <= vec4u(row));
    let p = select(vec4f(), exp(min(score - norm, vec4f())), seen);
    let d_score = p * (d_p - own);
    if (PARTS <= CHUNK) {
      acc = quad_sum(acc, 1.0, k, d_score);
    } else {
      acc = quad_sum(acc, 1.0, load_qkv(at + k_column, chunk), d_score);
    }
  }

  if (first + lane > last) { return; }
  let d = scaled(acc, chunk, params.scale);
  let d_at = q_at + chunk;
  d_qkv[d_at] = d.a;
  if (chunk + 1u < PARTS) { d_qkv[d_at + 1u] = d.b; }
  if (chunk + 2u < PARTS) { d_qkv[d_at + 2u] = d.c; }
  if (chunk + 3u < PARTS) { d_qkv[d_at + 3u] = d.d; }
  if (chunk + 4u < PARTS) { d_qkv[d_at + 4u] = d.e; }
  if (chunk + 5u < PARTS) { d_qkv[d_at + 5u] = d.f; }
  if (chunk + 6u < PARTS) { d_qkv[d_at + 6u] = d.g; }
  if (chunk + 7u < PARTS) { d_qkv[d_at + 7u] = d.h; }
  if (chunk == 0u) { delta[row * params.heads + head] = own; }
}
