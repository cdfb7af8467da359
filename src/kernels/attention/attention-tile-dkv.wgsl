// Gradients of the keys and values on GPUs. A workgroup takes 32 keys of one kv head and walks over the query
// heads of its group and tiles of 32 later queries:
//   dv = Σ p·d_out;  dk = scale · Σ p·(d_out·v − delta)·q
// Writes (=) the k and v columns of d_qkv. Tiles and layouts as in attention-tile.wgsl.

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let tiles = (params.rows + TILE - 1u) / TILE;
  let i = wid.x + wid.y * groups.x;
  if (i >= tiles * params.kv_heads) { return; }
  let kv = i / tiles;
  let first = (i % tiles) * TILE;
  let last = min(first + TILE, params.rows) - 1u;
  let k_column = (params.heads + kv) * PARTS;
  let v_column = k_column + params.kv_heads * PARTS;
  let group = params.heads / params.kv_heads;
  let y = lane / 8u;
  let x = lane % 8u;
  let final_row = segments[2u * last + 1u] - 1u;

  var dk: array<vec4f, 4u * CHUNKS>;
  var dv: array<vec4f, 4u * CHUNKS>;
  for (var head = kv * group; head < (kv + 1u) * group; head++) {
    let q_column = head * PARTS;
    for (var t = first; t <= final_row; t += TILE) {
      var s = array<vec4f, 4>();
      var d_p = array<vec4f, 4>();
      for (var chunk = 0u; chunk < CHUNKS; chunk++) {
        left_qkv(first, last, k_column, chunk, lane);
        right_qkv(t, final_row, q_column, chunk, lane);
        workgroupBarrier();
        s = add_dots(s, y, x);
        workgroupBarrier();
        left_qkv(first, last, v_column, chunk, lane);
        right_d_out(t, final_row, head, chunk, lane);
        workgroupBarrier();
        d_p = add_dots(d_p, y, x);
        workgroupBarrier();
      }
      let query = vec4u(t + x) + vec4u(0u, 8u, 16u, 24u);
      let at = min(query, vec4u(final_row)) * params.heads + head;
      let norm = vec4f(lse[at.x], lse[at.y], lse[at.z], lse[at.w]);
      let own = vec4f(delta[at.x], delta[at.y], delta[at.z], delta[at.w]);
      for (var r = 0u; r < 4u; r++) {
        let row = min(first + 4u * y + r, last);
        let seen = (query >= vec4u(row)) & (query < vec4u(segments[2u * row + 1u]));
        s[r] = select(vec4f(), exp(min(s[r] * params.scale - norm, vec4f())), seen);
        d_p[r] = s[r] * (d_p[r] - own) * params.scale;
      }
      store_weights(s, y, x);
      for (var chunk = 0u; chunk < CHUNKS; chunk++) {
        right_d_out(t, final_row, head, chunk, lane);
        workgroupBarrier();
        var more = weighted(y, x);
        for (var r = 0u; r < 4u; r++) { dv[4u * chunk + r] += more[r]; }
        workgroupBarrier();
      }
      store_weights(d_p, y, x);
      for (var chunk = 0u; chunk < CHUNKS; chunk++) {
        right_qkv(t, final_row, q_column, chunk, lane);
        workgroupBarrier();
        var more = weighted(y, x);
        for (var r = 0u; r < 4u; r++) { dk[4u * chunk + r] += more[r]; }
        workgroupBarrier();
      }
    }
  }

  for (var r = 0u; r < 4u; r++) {
    let row = first + 4u * y + r;
    if (row > last) { break; }
    for (var chunk = 0u; chunk < CHUNKS; chunk++) {
      let part = chunk * STEP + x;
      if (part < PARTS) {
        d_qkv[row * stride() + k_column + part] = dk[4u * chunk + r];
        d_qkv[row * stride() + v_column + part] = dv[4u * chunk + r];
      }
    }
  }
}
