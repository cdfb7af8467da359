// y = a·b (+ add) (+ bias), both widths multiples of 4: 4·BLOCKS × 16 outputs a quad of invocations,
// BLOCKS = 4, or 1 where there are few rows.
// a: (rows, depth); b: (cols, depth) if B_ROWS_ARE_COLUMNS, else (depth, cols); y, add: (rows, cols); bias: (cols).
//
// For adapters that pay for every load and every lane of it, but little for arithmetic: no value is
// loaded twice within the quad. Lane l holds rows 4i + l of a and columns 4l … 4l + 3 of b; the rows
// travel between the lanes by quad swaps, so in swap s lane l meets row 4i + (l ^ s).

@compute @workgroup_size(4)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) sid: u32) {
  let lane = sid & 3u;
  let tiles = (params.cols + 15u) / 16u;
  let tile = wid.x + wid.y * groups.x;
  let row = tile / tiles * 4u * BLOCKS;
  let quads = params.cols / 4u; // vec4s in a row of y
  let col = tile % tiles * 4u + lane; // in vec4s
  if (row >= params.rows) { return; }

  // rows and columns past the end repeat the last one and are not stored
  let last = params.rows - 1u;
  let width = params.depth / 4u;
  let a0 = min(row + lane, last) * width;
  let a1 = min(row + lane + 4u, last) * width;
  let a2 = min(row + lane + 8u, last) * width;
  let a3 = min(row + lane + 12u, last) * width;
  let b0 = min(col, quads - 1u) * params.b_col;
  let b1 = b0 + params.b_step;
  let b2 = b1 + params.b_step;
  let b3 = b2 + params.b_step;

  var y00 = vec4f();
  var y01 = vec4f();
  var y02 = vec4f();
  var y03 = vec4f();
  var y10 = vec4f();
  var y11 = vec4f();
  var y12 = vec4f();
  var y13 = vec4f();
  var y20 = vec4f();
  var y21 = vec4f();
  var y22 = vec4f();
  var y23 = vec4f();
  var y30 = vec4f();
  var y31 = vec4f();
  var y32 = vec4f();
  var y33 = vec4f();
  for (var k = 0u; k < width; k++) {
    let kb = k * params.b_next;
    // column j: four depths of column 4·col + j; `q * m` is four dot products, the form that runs fastest
    var m = mat4x4f(b[b0 + kb], b[b1 + kb], b[b2 + kb], b[b3 + kb]);
    if (!B_ROWS_ARE_COLUMNS) { m = transpose(m); }
    let q0 = a[a0 + k];
    y00 += q0 * m;
    y01 += quadSwapX(q0) * m;
    y02 += quadSwapY(q0) * m;
    y03 += quadSwapDiagonal(q0) * m;
    if (BLOCKS == 4u) {
      let q1 = a[a1 + k];
      y10 += q1 * m;
      y11 += quadSwapX(q1) * m;
      y12 += quadSwapY(q1) * m;
      y13 += quadSwapDiagonal(q1) * m;
      let q2 = a[a2 + k];
      y20 += q2 * m;
      y21 += quadSwapX(q2) * m;
      y22 += quadSwapY(q2) * m;
      y23 += quadSwapDiagonal(q2) * m;
      let q3 = a[a3 + k];
      y30 += q3 * m;
      y31 += quadSwapX(q3) * m;
      y32 += quadSwapY(q3) * m;
      y33 += quadSwapDiagonal(q3) * m;
    }
  }

  if (col >= quads) { return; }
  var offset = vec4f();
  if (params.has_bias != 0u) { offset = bias[col]; }
  // a loop over a copy: sixteen inlined stores would compile for longer than the product
  let result = array(y00, y01, y02, y03, y10, y11, y12, y13, y20, y21, y22, y23, y30, y31, y32, y33);
  for (var i = 0u; i < 4u * BLOCKS; i++) {
    let r = row + (i & 12u) + (lane ^ (i & 3u));
    if (r >= params.rows) { continue; }
    var value = result[i] + offset;
    if (params.has_add != 0u) { value += add[r * quads + col]; }
    y[r * quads + col] = value;
  }
}
