// Gradients of the keys and values on software adapters. A quad takes two neighbouring keys of one kv head
// and walks over the query heads of its group and the later queries, four at a time:
//   dv = Σ p·d_out;  dk = scale · Σ p·(d_out·v − delta)·q
// Writes (=) the k and v columns of d_qkv. Layouts as in attention-quad.wgsl.

struct Key { k: Slice, v: Slice, row: u32, end: u32 }
struct Sums { dk: Slice, dv: Slice }
// Four queries of one head; `row`, `lse` and `delta` are those of this lane's one.
struct Queries { q: array<Slice, 4>, d_out: array<Slice, 4>, row: u32, lse: f32, delta: f32 }

fn key(row: u32, kv: u32, lane: u32) -> Key {
  let at = (row * (params.heads + 2u * params.kv_heads) + params.heads + kv) * PARTS;
  let k = owned(load_qkv(at, lane), lane, params.scale);
  let v = owned(load_qkv(at + params.kv_heads * PARTS, lane), lane, 1.0);
  return Key(k, v, row, segments[2u * row + 1u]);
}

fn queries(t: u32, last: u32, head: u32, lane: u32) -> Queries {
  let stride = (params.heads + 2u * params.kv_heads) * PARTS;
  let column = head * PARTS;
  let t1 = min(t + 1u, last);
  let t2 = min(t + 2u, last);
  let t3 = min(t + 3u, last);
  let width = params.heads * PARTS;
  let q = load_four(t * stride + column, t1 * stride + column, t2 * stride + column, t3 * stride + column, lane);
  let d_o = array(
    load_d_out(t * width + column, lane), load_d_out(t1 * width + column, lane),
    load_d_out(t2 * width + column, lane), load_d_out(t3 * width + column, lane),
  );
  let mine = min(t + lane, last) * params.heads + head;
  return Queries(q, d_o, t + lane, lse[mine], delta[mine]);
}

fn advance(x: Sums, its: Key, by: Queries, lane: u32) -> Sums {
  let score = quad_dot(its.k, by.q, lane);
  let d_p = quad_dot(its.v, by.d_out, lane);
  let p = select(0.0, exp(min(score - by.lse, 0.0)), by.row >= its.row && by.row < its.end);
  let d_score = p * (d_p - by.delta) * params.scale;
  return Sums(mix(x.dk, 1.0, by.q, quad_values(d_score)), mix(x.dv, 1.0, by.d_out, quad_values(p)));
}

fn finish(x: Sums, row: u32, last: u32, kv: u32, lane: u32) {
  if (row > last) { return; }
  let at = (row * (params.heads + 2u * params.kv_heads) + params.heads + kv) * PARTS;
  store(at, x.dk, lane);
  store(at + params.kv_heads * PARTS, x.dv, lane);
}

@compute @workgroup_size(4)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) id: u32) {
  let tiles = (params.rows + 1u) / 2u;
  let i = wid.x + wid.y * groups.x;
  if (i >= tiles * params.kv_heads) { return; }
  let lane = id % 4u;
  let kv = i / tiles;
  let first = (i % tiles) * 2u;
  let last = min(first + 1u, params.rows - 1u);
  let group = params.heads / params.kv_heads;

  let k0 = key(first, kv, lane);
  let k1 = key(last, kv, lane);
  let stop = segments[2u * last + 1u];
  var x0 = Sums(); var x1 = Sums();
  for (var head = kv * group; head < (kv + 1u) * group; head++) {
    for (var t = first; t < stop; t += 4u) {
      let by = queries(t, stop - 1u, head, lane);
      x0 = advance(x0, k0, by, lane);
      x1 = advance(x1, k1, by, lane);
    }
  }

  finish(x0, first, last, kv, lane);
  finish(x1, first + 1u, last, kv, lane);
}
