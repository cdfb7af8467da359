// Causal attention on software adapters: a quad of lanes takes two neighbouring queries of one head and
// walks over their keys four at a time, keeping the softmax running.
// qkv: (rows, stride) vec4<f32>, heads [q … | k … | v …] of PARTS elements; segments: (rows, 2) u32 [start, end);
// out: (rows, heads·PARTS) vec4<f32>; lse: (rows, heads) f32, natural log of Σ exp(score).

struct Query { q: Slice, start: u32, row: u32 }

// Running softmax of one query; `sum` is this lane's share (its quarter of the keys).
struct Soft { acc: Slice, top: f32, sum: f32 }

fn query(row: u32, head: u32, lane: u32) -> Query {
  let at = (row * (params.heads + 2u * params.kv_heads) + head) * PARTS;
  return Query(owned(load_qkv(at, lane), lane, params.scale), segments[2u * row], row);
}

fn advance(x: Soft, its: Query, k: array<Slice, 4>, v: array<Slice, 4>, key: u32, lane: u32) -> Soft {
  let seen = key >= its.start && key <= its.row;
  let score = select(-1e30, quad_dot(its.q, k, lane), seen);
  let pair = max(score, quadSwapX(score));
  let top = max(x.top, max(pair, quadSwapY(pair)));
  let keep = exp(x.top - top);
  let p = select(0.0, exp(score - top), seen);
  return Soft(mix(x.acc, keep, v, quad_values(p)), top, x.sum * keep + p);
}

fn finish(x: Soft, row: u32, head: u32, lane: u32, live: bool) {
  let sum = quad_sum(x.sum);
  if (!live) { return; }
  let at = (row * params.heads + head) * PARTS + lane;
  if (lane < PARTS) { out[at] = x.acc.a / sum; }
  if (SLICES > 1u) { if (4u + lane < PARTS) { out[at + 4u] = x.acc.b / sum; } }
  if (SLICES > 2u) { if (8u + lane < PARTS) { out[at + 8u] = x.acc.c / sum; } }
  if (SLICES > 3u) { if (12u + lane < PARTS) { out[at + 12u] = x.acc.d / sum; } }
  if (lane == 0u) { lse[row * params.heads + head] = x.top + log(sum); }
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
  let empty = Soft(Slice(), -1e30, 0.0);
  var x0 = empty; var x1 = empty;
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

  finish(x0, first, head, lane, true);
  finish(x1, first + 1u, head, lane, first + 1u <= last);
}
