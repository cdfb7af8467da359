// Gradient of the queries on GPUs; tiles and layouts as in attention-tile.wgsl:
//   p = exp(score − lse);  delta = d_out · out;  dq = scale · Σ_j p·(d_out·v_j − delta)·k_j
// Writes (=) the q columns of d_qkv and delta (rows, heads).

var<workgroup> deltas: array<f32, TILE>;

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

  if (lane < TILE && first + lane <= last) {
    let at = (first + lane) * params.heads + head;
    var own = 0.0;
    for (var c = 0u; c < PARTS; c++) { own += dot(d_out[at * PARTS + c], out[at * PARTS + c]); }
    deltas[lane] = own;
    delta[at] = own;
  }
  workgroupBarrier();

  var acc: array<vec4f, 4u * CHUNKS>;
  for (var j = segments[2u * first]; j <= last; j += TILE) {
    var s = array<vec4f, 4>();
    var d_p = array<vec4f, 4>();
    for (var chunk = 0u; chunk < CHUNKS; chunk++) {
      left_qkv(first, last, q_column, chunk, lane);
      right_qkv(j, last, k_column, chunk, lane);
      workgroupBarrier();
      s = add_dots(s, y, x);
      workgroupBarrier();
      left_d_out(first, last, head, chunk, lane);
      right_qkv(j, last, v_column, chunk, lane);
      workgroupBarrier();
      d_p = add_dots(d_p, y, x);
      workgroupBarrier();
    }
    let key = vec4u(j + x) + vec4u(0u, 8u, 16u, 24u);
    for (var r = 0u; r < 4u; r++) {
      let row = min(first + 4u * y + r, last);
      let seen = (key >= vec4u(segments[2u * row])) & (key <= vec4u(row));
      let p = exp(min(s[r] * params.scale - lse[row * params.heads + head], vec4f()));
      s[r] = select(vec4f(), p * (d_p[r] - deltas[row - first]) * params.scale, seen);
    }
    store_weights(s, y, x);
    for (var chunk = 0u; chunk < CHUNKS; chunk++) {
      right_qkv(j, last, k_column, chunk, lane);
      workgroupBarrier();
      var more = weighted(y, x);
      for (var r = 0u; r < 4u; r++) { acc[4u * chunk + r] += more[r]; }
      workgroupBarrier();
    }
  }

  for (var r = 0u; r < 4u; r++) {
    let row = first + 4u * y + r;
    if (row > last) { break; }
    for (var chunk = 0u; chunk < CHUNKS; chunk++) {
      let part = chunk * STEP + x;
      if (part < PARTS) { d_qkv[row * stride() + q_column + part] = acc[4u * chunk + r]; }
    }
  }
}
