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
  let pairs = params.depth / 2u;
  for (var k = 0u; k < pairs; k++) {
    let p = a[a0 + 2u * k * lines];
    let q = a[a0 + (2u * k + 1u) * lines];
    let n = b[b0 + 2u * k * quads];
    let m = b[b0 + (2u * k + 1u) * quads];
    y00 += p.x * n + q.x * m;
    y01 += p.y * n + q.y * m;
    y02 += p.z * n + q.z * m;
    y03 += p.w * n + q.w * m;
    let p1 = quadSwapX(p);
    let q1 = quadSwapX(q);
    y10 += p1.x * n + q1.x * m;
    y11 += p1.y * n + q1.y * m;
    y12 += p1.z * n + q1.z * m;
    y13 += p1.w * n + q1.w * m;
    let p2 = quadSwapY(p);
    let q2 = quadSwapY(q);
    y20 += p2.x * n + q2.x * m;
    y21 += p2.y * n + q2.y * m;
    y22 += p2.z * n + q2.z * m;
    y23 += p2.w * n + q2.w * m;
    let p3 = quadSwapDiagonal(p);
    let q3 = quadSwapDiagonal(q);
    y30 += p3.x * n + q3.x * m;
    y31 += p3.y * n + q3.y * m;
    y32 += p3.z * n + q3.z * m;
    y33 += p3.w * n + q3.w * m;
  }
  if (params.depth % 2u != 0u) {
    let p = a[a0 + 2u * pairs * lines];
    let n = b[b0 + 2u * pairs * quads];
    y00 += p.x * n;
    y01 += p.y * n;
    y02 += p.z * n;
    y03 += p.w * n;
    let p1 = quadSwapX(p);
    y10 += p1.x * n;
    y11 += p1.y * n;
    y12 += p1.z * n;
    y13 += p1.w * n;
    let p2 = quadSwapY(p);
    y20 += p2.x * n;
    y21 += p2.y * n;
    y22 += p2.z * n;
    y23 += p2.w * n;
    let p3 = quadSwapDiagonal(p);
    y30 += p3.x * n;
    y31 += p3.y * n;
    y32 += p3.z * n;
    y33 += p3.w * n;
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
