// y = a·b (+ add) (+ bias), both widths multiples of 4: 8 × 4 outputs a thread, all in registers.
// a: (rows, depth); b: (cols, depth) if B_ROWS_ARE_COLUMNS, else (depth, cols); y, add: (rows, cols); bias: (cols).
// For software adapters without quad operations.

@compute @workgroup_size(4)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let quads = params.cols / 4u; // vec4s in a row of y
  let tile = (wid.x + wid.y * groups.x) * 4u + lane;
  let row = tile / quads * 8u;
  let col = tile % quads; // in vec4s
  if (row >= params.rows) { return; }
  // rows past the end repeat the last one and are not stored
  let last = params.rows - 1u;
  let width = params.depth / 4u;
  let a0 = row * width;
  let a1 = min(row + 1u, last) * width;
  let a2 = min(row + 2u, last) * width;
  let a3 = min(row + 3u, last) * width;
  let a4 = min(row + 4u, last) * width;
  let a5 = min(row + 5u, last) * width;
  let a6 = min(row + 6u, last) * width;
  let a7 = min(row + 7u, last) * width;
  let b0 = col * params.b_col;
  var y0 = vec4f();
  var y1 = vec4f();
  var y2 = vec4f();
  var y3 = vec4f();
  var y4 = vec4f();
  var y5 = vec4f();
  var y6 = vec4f();
  var y7 = vec4f();
  for (var k = 0u; k < width; k++) {
    let at = b0 + k * params.b_next;
    var m = mat4x4f(b[at], b[at + params.b_step], b[at + 2u * params.b_step], b[at + 3u * params.b_step]);
    if (!B_ROWS_ARE_COLUMNS) { m = transpose(m); }
    y0 += a[a0 + k] * m;
    y1 += a[a1 + k] * m;
    y2 += a[a2 + k] * m;
    y3 += a[a3 + k] * m;
    y4 += a[a4 + k] * m;
    y5 += a[a5 + k] * m;
    y6 += a[a6 + k] * m;
    y7 += a[a7 + k] * m;
  }
  var offset = vec4f();
  if (params.has_bias != 0u) { offset = bias[col]; }
  let result = array(y0, y1, y2, y3, y4, y5, y6, y7);
  for (var i = 0u; i < min(8u, params.rows - row); i++) {
    let at = (row + i) * quads + col;
    var value = result[i] + offset;
    if (params.has_add != 0u) { value += add[at]; }
    y[at] = value;
  }
}
