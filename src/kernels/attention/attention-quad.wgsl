// Causal attention on software adapters: a quad of lanes takes four neighbouring queries of one head and
// walks over their keys four at a time, one loaded by each lane; the softmax is kept running.
// qkv: (rows, stride) vec4<f32>, heads [q … | k … | v …] of PARTS elements; segments: (rows, 2) u32 [start, end);
// out: (rows, heads·PARTS) vec4<f32>; lse: (rows, heads) f32. Workgroup (x + y·groups.x, z): z is the chunk of
// the head (CHUNK parts) that this quad writes; the scores are made again for each chunk.

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
  let q_at = row * stride + head * PARTS;
  let q = scaled(load_qkv(q_at, 0u), 0u, params.scale);
  var acc = Parts();
  var top = -1e30;
  var sum = 0.0;
  for (var j = segments[2u * first]; j <= last; j += 4u) {
    let at = min(j + lane, last) * stride;
    var score = quad_dots(q, load_qkv(at + k_column, 0u));
    for (var part = CHUNK; part < PARTS; part += CHUNK) {
      score += quad_dots(scaled(load_qkv(q_at, part), part, params.scale), load_qkv(at + k_column, part));
    }
    let key = vec4u(j, j + 1u, j + 2u, j + 3u);
    let seen = (key >= vec4u(start)) & (key <= vec4u(row));
    score = select(vec4f(-1e30), score, seen);
    let higher = max(top, max(max(score.x, score.y), max(score.z, score.w)));
    let keep = exp(top - higher);
    let p = select(vec4f(), exp(score - higher), seen);
    acc = quad_sum(acc, keep, load_qkv(at + v_column, chunk), p);
    sum = sum * keep + dot(p, vec4f(1.0));
    top = higher;
  }

  if (first + lane > last) { return; }
  let o_at = (row * params.heads + head) * PARTS + chunk;
  let result = scaled(acc, chunk, 1.0 / sum);
  out[o_at] = result.a;
  if (chunk + 1u < PARTS) { out[o_at + 1u] = result.b; }
  if (chunk + 2u < PARTS) { out[o_at + 2u] = result.c; }
  if (chunk + 3u < PARTS) { out[o_at + 3u] = result.d; }
  if (chunk + 4u < PARTS) { out[o_at + 4u] = result.e; }
  if (chunk + 5u < PARTS) { out[o_at + 5u] = result.f; }
  if (chunk + 6u < PARTS) { out[o_at + 6u] = result.g; }
  if (chunk + 7u < PARTS) { out[o_at + 7u] = result.h; }
  if (chunk == 0u) { lse[row * params.heads + head] = top + log(sum); }
}
