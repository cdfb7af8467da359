// Causal attention on GPUs: a workgroup takes 32 queries of one head and walks over tiles of 32 keys, which its
// invocations share through workgroup memory; the softmax is kept running (two invocations a query).
// qkv: (rows, stride) vec4<f32>, heads [q … | k … | v …] of PARTS elements; segments: (rows, 2) u32 [start, end);
// out: (rows, heads·PARTS) vec4<f32>; lse: (rows, heads) f32, natural log of Σ exp(score).

var<workgroup> shares: array<f32, 2u * TILE>;
var<workgroup> keeps: array<f32, TILE>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let tiles = (params.rows + TILE - 1u) / TILE;
  let i = wid.x + wid.y * groups.x;
  if (i >= tiles * params.heads) { return; }
  let head = i / tiles;
  let first = (i % tiles) * TILE;
  let last = min(first + TILE, params.rows) - 1u;
  let q_column = head * PARTS;
  let k_column = (params.heads + head / (params.heads / params.kv_heads)) * PARTS;
  let v_column = k_column + params.kv_heads * PARTS;
  let y = lane / 8u;
  let x = lane % 8u;
  // the softmax of query lane/2, half of each tile of keys to each of its two invocations
  let row = min(first + lane / 2u, last);
  let start = segments[2u * row];
  let half = (lane % 2u) * TILE / 2u;

  var acc: array<vec4f, 4u * CHUNKS>;
  var top = -1e30;
  var sum = 0.0;
  for (var j = segments[2u * first]; j <= last; j += TILE) {
    var s = array<vec4f, 4>();
    for (var chunk = 0u; chunk < CHUNKS; chunk++) {
      left_qkv(first, last, q_column, chunk, lane);
      right_qkv(j, last, k_column, chunk, lane);
      workgroupBarrier();
      s = add_dots(s, y, x);
      workgroupBarrier();
    }
    store_weights(s, y, x);
    workgroupBarrier();

    var highest = top;
    for (var n = half; n < half + TILE / 2u; n++) {
      if (j + n >= start && j + n <= row) {
        highest = max(highest, params.scale * weights[n * TILE + lane / 2u]);
      }
    }
    shares[lane] = highest;
    workgroupBarrier();
    highest = max(highest, shares[lane ^ 1u]);
    let keep = exp(top - highest);
    sum *= keep;
    for (var n = half; n < half + TILE / 2u; n++) {
      let at = n * TILE + lane / 2u;
      let seen = j + n >= start && j + n <= row;
      let p = select(0.0, exp(min(params.scale * weights[at] - highest, 0.0)), seen);
      weights[at] = p;
      sum += p;
    }
    top = highest;
    if (half == 0u) { keeps[lane / 2u] = keep; }

    for (var chunk = 0u; chunk < CHUNKS; chunk++) {
      right_qkv(j, last, v_column, chunk, lane);
      workgroupBarrier();
      var more = weighted(y, x);
      for (var r = 0u; r < 4u; r++) {
        acc[4u * chunk + r] = acc[4u * chunk + r] * keeps[4u * y + r] + more[r];
      }
      workgroupBarrier();
    }
  }

  shares[lane] = sum;
  workgroupBarrier();
  for (var r = 0u; r < 4u; r++) {
    let mine = 4u * y + r;
    if (first + mine > last) { break; }
    let total = shares[2u * mine] + shares[2u * mine + 1u];
    for (var chunk = 0u; chunk < CHUNKS; chunk++) {
      let part = chunk * STEP + x;
      if (part < PARTS) {
        out[((first + mine) * params.heads + head) * PARTS + part] = acc[4u * chunk + r] / total;
      }
    }
  }
  if (half == 0u && first + lane / 2u <= last) {
    lse[row * params.heads + head] = top + log(shares[lane] + shares[lane + 1u]);
  }
}
