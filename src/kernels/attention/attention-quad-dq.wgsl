// Gradient of the queries on software adapters; layouts as in attention-quad.wgsl; a quad takes two queries:
//   p = exp(score − lse);  delta = d_out · out;  dq = scale · Σ_j p·(d_out·v_j − delta)·k_j
// Writes (=) the q columns of d_qkv and delta (rows, heads).

struct Query { q: Slice, d_out: Slice, start: u32, row: u32, lse: f32, delta: f32 }

fn query(row: u32, head: u32, lane: u32) -> Query {
  let q_at = (row * (params.heads + 2u * params.kv_heads) + head) * PARTS;
  let o_at = (row * params.heads + head) * PARTS;
  let d_o = owned(load_d_out(o_at, lane), lane, 1.0);
  var o = Slice();
  o.a = out[o_at + part(lane, 0u)];
  if (SLICES > 1u) { o.b = out[o_at + part(lane, 1u)]; }
  if (SLICES > 2u) { o.c = out[o_at + part(lane, 2u)]; }
  if (SLICES > 3u) { o.d = out[o_at + part(lane, 3u)]; }
  let own = quad_sum(slice_dot(d_o, o));
  let q = owned(load_qkv(q_at, lane), lane, params.scale);
  return Query(q, d_o, segments[2u * row], row, lse[row * params.heads + head], own);
}

fn advance(dq: Slice, its: Query, k: array<Slice, 4>, v: array<Slice, 4>, key: u32, lane: u32) -> Slice {
  let score = quad_dot(its.q, k, lane);
  let d_p = quad_dot(its.d_out, v, lane);
  let p = select(0.0, exp(min(score - its.lse, 0.0)), key >= its.start && key <= its.row);
  return mix(dq, 1.0, k, quad_values(p * (d_p - its.delta) * params.scale));
}

fn finish(dq: Slice, its: Query, row: u32, last: u32, head: u32, lane: u32) {
  if (row > last) { return; }
  store((row * (params.heads + 2u * params.kv_heads) + head) * PARTS, dq, lane);
  if (lane == 0u) { delta[row * params.heads + head] = its.delta; }
}

@compute @workgroup_size(4)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) id: u32) {
  let tiles = (params.rows + 1u) / 2u;
  let i = wid.x + wid.y * groups.x;
  if (i >= tiles * params.heads) { return; }
  let lane = id % 4u;
  let head = i / tiles;
  let first = (i % tiles) * 2u;
  let last = min(first + 1u, params.rows - 1u);
  let stride = (params.heads + 2u * params.kv_heads) * PARTS;
  let k_column = (params.heads + head / (params.heads / params.kv_heads)) * PARTS;
  let v_column = k_column + params.kv_heads * PARTS;

  let q0 = query(first, head, lane);
  let q1 = query(last, head, lane);
  var x0 = Slice(); var x1 = Slice();
  for (var j = segments[2u * first]; j <= last; j += 4u) {
    let at0 = j * stride;
    let at1 = min(j + 1u, last) * stride;
    let at2 = min(j + 2u, last) * stride;
    let at3 = min(j + 3u, last) * stride;
    let k = load_four(at0 + k_column, at1 + k_column, at2 + k_column, at3 + k_column, lane);
    let v = load_four(at0 + v_column, at1 + v_column, at2 + v_column, at3 + v_column, lane);
    let key = j + lane;
    x0 = advance(x0, q0, k, v, key, lane);
    x1 = advance(x1, q1, k, v, key, lane);
  }

  finish(x0, q0, first, last, head, lane);
  finish(x1, q1, first + 1u, last, head, lane);
}
