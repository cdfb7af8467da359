// uv = [x·Aᵀ | scale · dy·B], group by group: 16 tokens × 16 columns a quad of invocations (see matmul-quad).
// x: (tokens, depth), dy: (tokens, rows), a: (cols, depth), b: (rows, rank), uv: (tokens, 2·cols);
// cols = groups·rank; rows before end0 are group 0, before end1 group 1, the rest group 2.
// All widths and group ends are multiples of 4 and counted in vec4s.

@compute @workgroup_size(4)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) sid: u32) {
  let lane = sid & 3u;
  let width = params.depth / 4u;
  let lines = params.rows / 4u;
  let quads = params.cols / 4u;
  let ranks = params.rank / 4u;
  // the tiles along a row of tokens: first those of u, then those of v, group by group
  let u_tiles = (quads + 3u) / 4u;
  let group_tiles = (ranks + 3u) / 4u;
  let tiles = u_tiles + quads / ranks * group_tiles;
  let tile = wid.x + wid.y * groups.x;
  let row = tile / tiles * 16u;
  if (row >= params.tokens) { return; }
  let t = tile % tiles;
  let is_u = t < u_tiles;
  let group = (t - u_tiles) / group_tiles;
  let col = select((t - u_tiles) % group_tiles, t, is_u) * 4u + lane;
  let cols = select(ranks, quads, is_u);
  let start = select(select(params.end1, params.end0, group == 1u), 0u, group == 0u) / 4u;
  let end = select(select(params.rows, params.end1, group == 1u), params.end0, group == 0u) / 4u;

  // tokens and columns past the end repeat the last one and are not stored
  let last = params.tokens - 1u;
  let t0 = min(row + lane, last);
  let t1 = min(row + lane + 4u, last);
  let t2 = min(row + lane + 8u, last);
  let t3 = min(row + lane + 12u, last);
  let c = min(col, cols - 1u);

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
  for (var k = 0u; k < select(0u, width, is_u); k++) {
    let at = 4u * c * width + k;
    let m = mat4x4f(a[at], a[at + width], a[at + 2u * width], a[at + 3u * width]);
    let q0 = x[t0 * width + k];
    y00 += q0 * m;
    y01 += quadSwapX(q0) * m;
    y02 += quadSwapY(q0) * m;
    y03 += quadSwapDiagonal(q0) * m;
    let q1 = x[t1 * width + k];
    y10 += q1 * m;
    y11 += quadSwapX(q1) * m;
    y12 += quadSwapY(q1) * m;
    y13 += quadSwapDiagonal(q1) * m;
    let q2 = x[t2 * width + k];
    y20 += q2 * m;
    y21 += quadSwapX(q2) * m;
    y22 += quadSwapY(q2) * m;
    y23 += quadSwapDiagonal(q2) * m;
    let q3 = x[t3 * width + k];
    y30 += q3 * m;
    y31 += quadSwapX(q3) * m;
    y32 += quadSwapY(q3) * m;
    y33 += quadSwapDiagonal(q3) * m;
  }
  for (var n = start; n < select(end, 0u, is_u); n++) {
    let at = 4u * n * ranks + c;
    let m = transpose(mat4x4f(b[at], b[at + ranks], b[at + 2u * ranks], b[at + 3u * ranks]));
    let q0 = dy[t0 * lines + n];
    y00 += q0 * m;
    y01 += quadSwapX(q0) * m;
    y02 += quadSwapY(q0) * m;
    y03 += quadSwapDiagonal(q0) * m;
    let q1 = dy[t1 * lines + n];
    y10 += q1 * m;
    y11 += quadSwapX(q1) * m;
    y12 += quadSwapY(q1) * m;
    y13 += quadSwapDiagonal(q1) * m;
    let q2 = dy[t2 * lines + n];
    y20 += q2 * m;
    y21 += quadSwapX(q2) * m;
    y22 += quadSwapY(q2) * m;
    y23 += quadSwapDiagonal(q2) * m;
    let q3 = dy[t3 * lines + n];
    y30 += q3 * m;
    y31 += quadSwapX(q3) * m;
    y32 += quadSwapY(q3) * m;
    y33 += quadSwapDiagonal(q3) * m;
  }

  if (col >= cols) { return; }
  let out = select(quads + group * ranks + col, col, is_u);
  let factor = select(params.scale, 1.0, is_u);
  let result = array(y00, y01, y02, y03, y10, y11, y12, y13, y20, y21, y22, y23, y30, y31, y32, y33);
  for (var i = 0u; i < 16u; i++) {
    let r = row + (i & 12u) + (lane ^ (i & 3u));
    if (r < params.tokens) { uv[2u * r * quads + out] = factor * result[i]; }
  }
}
