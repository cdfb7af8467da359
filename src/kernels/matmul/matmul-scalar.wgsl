// y = a·b (+ add) (+ bias), any sizes, 4 × 4 outputs a thread.
// Row-major operands of every mode are reached through strides (in elements):
// a(i, k) = a[i·a_row + k·a_depth], b(k, j) = b[k·b_depth + j·b_col]. y, add: (rows, cols); bias: (cols).

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let tiles = (params.cols + 3u) / 4u;
  let tile = (wid.x + wid.y * groups.x) * 64u + lane;
  let row = tile / tiles * 4u;
  let col = tile % tiles * 4u;
  if (row >= params.rows) { return; }
  // rows and columns past the end repeat the last one and are not stored
  let i = min(vec4u(row) + vec4u(0u, 1u, 2u, 3u), vec4u(params.rows - 1u)) * params.a_row;
  let j = min(vec4u(col) + vec4u(0u, 1u, 2u, 3u), vec4u(params.cols - 1u)) * params.b_col;
  var acc: array<vec4f, 4>;
  for (var k = 0u; k < params.depth; k++) {
    let at = i + k * params.a_depth;
    let bt = j + k * params.b_depth;
    let bk = vec4f(b[bt.x], b[bt.y], b[bt.z], b[bt.w]);
    acc[0] += a[at.x] * bk;
    acc[1] += a[at.y] * bk;
    acc[2] += a[at.z] * bk;
    acc[3] += a[at.w] * bk;
  }
  for (var r = 0u; r < min(4u, params.rows - row); r++) {
    for (var c = 0u; c < min(4u, params.cols - col); c++) {
      var value = acc[r][c];
      let at = (row + r) * params.cols + col + c;
      if (params.has_bias != 0u) { value += bias[col + c]; }
      if (params.has_add != 0u) { value += add[at]; }
      y[at] = value;
    }
  }
}
