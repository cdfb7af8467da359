// y = a·b (+ add) (+ bias), both widths multiples of 4: 4·BLOCKS × 32 outputs a quad of invocations,
// BLOCKS = 5, or 1 where there are few rows.
// a: (rows, depth); b: (cols, depth) if B_ROWS_ARE_COLUMNS, else (depth, cols); y, add: (rows, cols); bias: (cols).
//
// For adapters that pay for every load and every lane of it, but little for arithmetic: no value is
// loaded twice within the quad. Lane l holds rows 4i + l of a, and of b columns 4l … 4l + 3 of either
// half of the tile; the rows travel between the lanes by quad swaps, so in swap s lane l meets row
// 4i + (l ^ s). acc[4i + s] is that product with the first half, acc[20 + 4i + s] with the second.

@compute @workgroup_size(4)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) sid: u32) {
  let lane = sid & 3u;
  let tiles = (params.cols + 31u) / 32u;
  let tile = wid.x + wid.y * groups.x;
  let row = tile / tiles * 4u * BLOCKS;
  let quads = params.cols / 4u; // vec4s in a row of y
  let col = tile % tiles * 8u + lane; // in vec4s
  if (row >= params.rows) { return; }

  // rows and columns past the end repeat the last one and are not stored
  let last = params.rows - 1u;
  let width = params.depth / 4u;
  let a0 = min(row + lane, last) * width;
  let a1 = min(row + lane + 4u, last) * width;
  let a2 = min(row + lane + 8u, last) * width;
  let a3 = min(row + lane + 12u, last) * width;
  let a4 = min(row + lane + 16u, last) * width;
  let b0 = min(col, quads - 1u) * params.b_col;
  let b1 = b0 + params.b_step;
  let b2 = b1 + params.b_step;
  let b3 = b2 + params.b_step;
  let c0 = min(col + 4u, quads - 1u) * params.b_col;
  let c1 = c0 + params.b_step;
  let c2 = c1 + params.b_step;
  let c3 = c2 + params.b_step;

  var acc: array<vec4f, 40>;
  for (var k = 0u; k < width; k++) {
    let kb = k * params.b_next;
    // column j: four depths of one column of b; `q * m` is four dot products, the form that runs fastest
    var m = mat4x4f(b[b0 + kb], b[b1 + kb], b[b2 + kb], b[b3 + kb]);
    var n = mat4x4f(b[c0 + kb], b[c1 + kb], b[c2 + kb], b[c3 + kb]);
    if (!B_ROWS_ARE_COLUMNS) {
      m = transpose(m);
      n = transpose(n);
    }
    let q0 = a[a0 + k];
    acc[0] += q0 * m;
    acc[20] += q0 * n;
    let x0 = quadSwapX(q0);
    acc[1] += x0 * m;
    acc[21] += x0 * n;
    let y0 = quadSwapY(q0);
    acc[2] += y0 * m;
    acc[22] += y0 * n;
    let d0 = quadSwapDiagonal(q0);
    acc[3] += d0 * m;
    acc[23] += d0 * n;
    if (BLOCKS == 5u) {
      let q1 = a[a1 + k];
      acc[4] += q1 * m;
      acc[24] += q1 * n;
      let x1 = quadSwapX(q1);
      acc[5] += x1 * m;
      acc[25] += x1 * n;
      let y1 = quadSwapY(q1);
      acc[6] += y1 * m;
      acc[26] += y1 * n;
      let d1 = quadSwapDiagonal(q1);
      acc[7] += d1 * m;
      acc[27] += d1 * n;
      let q2 = a[a2 + k];
      acc[8] += q2 * m;
      acc[28] += q2 * n;
      let x2 = quadSwapX(q2);
      acc[9] += x2 * m;
      acc[29] += x2 * n;
      let y2 = quadSwapY(q2);
      acc[10] += y2 * m;
      acc[30] += y2 * n;
      let d2 = quadSwapDiagonal(q2);
      acc[11] += d2 * m;
      acc[31] += d2 * n;
      let q3 = a[a3 + k];
      acc[12] += q3 * m;
      acc[32] += q3 * n;
      let x3 = quadSwapX(q3);
      acc[13] += x3 * m;
      acc[33] += x3 * n;
      let y3 = quadSwapY(q3);
      acc[14] += y3 * m;
      acc[34] += y3 * n;
      let d3 = quadSwapDiagonal(q3);
      acc[15] += d3 * m;
      acc[35] += d3 * n;
      let q4 = a[a4 + k];
      acc[16] += q4 * m;
      acc[36] += q4 * n;
      let x4 = quadSwapX(q4);
      acc[17] += x4 * m;
      acc[37] += x4 * n;
      let y4 = quadSwapY(q4);
      acc[18] += y4 * m;
      acc[38] += y4 * n;
      let d4 = quadSwapDiagonal(q4);
      acc[19] += d4 * m;
      acc[39] += d4 * n;
    }
  }

  // loops over a copy: inlined stores would compile for longer than the product, and an array that is
  // indexed at run time is not kept in registers
  let result = acc;
  for (var half = 0u; half < 2u; half++) {
    let c = col + 4u * half;
    if (c >= quads) { continue; }
    var offset = vec4f();
    if (params.has_bias != 0u) { offset = bias[c]; }
    for (var i = 0u; i < 4u * BLOCKS; i++) {
      let r = row + (i & 28u) + (lane ^ (i & 3u));
      if (r >= params.rows) { continue; }
      var value = result[20u * half + i] + offset;
      if (params.has_add != 0u) { value += add[r * quads + c]; }
      y[r * quads + c] = value;
    }
  }
}
