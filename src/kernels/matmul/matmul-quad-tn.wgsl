// y = aᵀ·b (+ add) (+ bias), both widths multiples of 4: 16 × 16 outputs a quad of invocations.
// a: (depth, rows), b: (depth, cols), y, add: (rows, cols), bias: (cols).
// As matmul-quad: lane l holds rows 4l … 4l + 3 of the tile and columns 4l … 4l + 3, the rows travel
// by quad swaps, so in swap s lane l meets rows 4(l ^ s) … 4(l ^ s) + 3.

@compute @workgroup_size(4)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) sid: u32) {
  let lane = sid & 3u;
  let tiles = (params.cols + 15u) / 16u;
  let tile = wid.x + wid.y * groups.x;
  let lines = params.rows / 4u; // vec4s in a row of a
  let quads = params.cols / 4u; // vec4s in a row of b and y
  let line = tile / tiles * 4u; // in vec4s
  let col = tile % tiles * 4u + lane; // in vec4s
  if (line >= lines) { return; }
  // lines and columns past the end repeat the last one and are not stored
  let a0 = min(line + lane, lines - 1u);
  let b0 = min(col, quads - 1u);

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
  let last = params.depth - 1u;
  for (var k = 0u; k < params.depth; k += 4u) {
    // column e of p and of m: four depths of row or column e; depths past the last one repeat it, weighted 0
    let k1 = min(k + 1u, last);
    let k2 = min(k + 2u, last);
    let k3 = min(k + 3u, last);
    let p = transpose(mat4x4f(
      a[a0 + k * lines],
      select(0.0, 1.0, k1 > k) * a[a0 + k1 * lines],
      select(0.0, 1.0, k2 > k1) * a[a0 + k2 * lines],
      select(0.0, 1.0, k3 > k2) * a[a0 + k3 * lines],
    ));
    let m = transpose(mat4x4f(
      b[b0 + k * quads],
      b[b0 + k1 * quads],
      b[b0 + k2 * quads],
      b[b0 + k3 * quads],
    ));
    y00 += p[0] * m;
    y01 += p[1] * m;
    y02 += p[2] * m;
    y03 += p[3] * m;
    y10 += quadSwapX(p[0]) * m;
    y11 += quadSwapX(p[1]) * m;
    y12 += quadSwapX(p[2]) * m;
    y13 += quadSwapX(p[3]) * m;
    y20 += quadSwapY(p[0]) * m;
    y21 += quadSwapY(p[1]) * m;
    y22 += quadSwapY(p[2]) * m;
    y23 += quadSwapY(p[3]) * m;
    y30 += quadSwapDiagonal(p[0]) * m;
    y31 += quadSwapDiagonal(p[1]) * m;
    y32 += quadSwapDiagonal(p[2]) * m;
    y33 += quadSwapDiagonal(p[3]) * m;
  }

  if (col >= quads) { return; }
  var offset = vec4f();
  if (params.has_bias != 0u) { offset = bias[col]; }
  // a loop over a copy: sixteen inlined stores would compile for longer than the product
  let result = array(y00, y01, y02, y03, y10, y11, y12, y13, y20, y21, y22, y23, y30, y31, y32, y33);
  for (var i = 0u; i < 16u; i++) {
    let r = 4u * line + 4u * (lane ^ (i >> 2u)) + (i & 3u);
    if (r >= params.rows) { continue; }
    var value = result[i] + offset;
    if (params.has_add != 0u) { value += add[r * quads + col]; }
    y[r * quads + col] = value;
  }
}
