// y = a·b (+ add) (+ bias) through workgroup memory: TILE × TILE outputs a workgroup, 4 × 4 a thread.
// a: (rows, depth), or (depth, rows) if A_DEPTH_FIRST; b: (cols, depth), or (depth, cols) if B_DEPTH_FIRST;
// y, add: (rows, cols); bias: (cols). The second size of a and of b is a multiple of 4, and so is cols.
//
// An operand whose rows run along the depth is kept line by line, four depths a vec4, lines 4i + j at
// slot j·TILE/4 + i and 5 vec4s apart: threads side by side then read from different banks. A depth-first
// operand is kept depth by depth, as it lies in memory.

const SIDE = TILE / 4u; // threads along a side
const STRIDE = 5u; // 16 depths = 4 vec4s a line, and one of padding
var<workgroup> tile_a: array<vec4f, TILE * STRIDE>;
var<workgroup> tile_b: array<vec4f, TILE * STRIDE>;

@compute @workgroup_size(SIDE * SIDE)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let across = (params.cols + TILE - 1u) / TILE;
  let tile = wid.x + wid.y * groups.x;
  let row0 = tile / across * TILE;
  let col0 = tile % across * TILE;
  if (row0 >= params.rows) { return; }
  let tx = lane % SIDE;
  let ty = lane / SIDE;
  var acc: array<vec4f, 4>;

  for (var k0 = 0u; k0 < params.depth; k0 += 16u) {
    for (var i = lane; i < TILE * 4u; i += SIDE * SIDE) {
      // line and quad within a depth-last tile, depth and quad within a depth-first one
      let line = i / 4u;
      let quad = i % 4u;
      let slot = (line % 4u * SIDE + line / 4u) * STRIDE + quad;
      let d = i / SIDE;
      let q = i % SIDE;
      if (A_DEPTH_FIRST) {
        let inside = k0 + d < params.depth && row0 + 4u * q < params.rows;
        tile_a[i] = select(vec4f(), a[(k0 + d) * (params.rows / 4u) + row0 / 4u + q], inside);
      } else {
        let inside = row0 + line < params.rows && k0 + 4u * quad < params.depth;
        tile_a[slot] = select(vec4f(), a[((row0 + line) * params.depth + k0) / 4u + quad], inside);
      }
      if (B_DEPTH_FIRST) {
        let inside = k0 + d < params.depth && col0 + 4u * q < params.cols;
        tile_b[i] = select(vec4f(), b[((k0 + d) * params.cols + col0) / 4u + q], inside);
      } else {
        let inside = col0 + line < params.cols && k0 + 4u * quad < params.depth;
        tile_b[slot] = select(vec4f(), b[((col0 + line) * params.depth + k0) / 4u + quad], inside);
      }
    }
    workgroupBarrier();
    for (var q = 0u; q < 4u; q++) {
      var ma: mat4x4f; // column i: four depths of row i
      if (A_DEPTH_FIRST) {
        let at = 4u * q * SIDE + ty;
        ma = transpose(mat4x4f(tile_a[at], tile_a[at + SIDE], tile_a[at + 2u * SIDE], tile_a[at + 3u * SIDE]));
      } else {
        let at = ty * STRIDE + q;
        let next = SIDE * STRIDE;
        ma = mat4x4f(tile_a[at], tile_a[at + next], tile_a[at + 2u * next], tile_a[at + 3u * next]);
      }
      if (B_DEPTH_FIRST) {
        let at = 4u * q * SIDE + tx;
        let mb = mat4x4f(tile_b[at], tile_b[at + SIDE], tile_b[at + 2u * SIDE], tile_b[at + 3u * SIDE]);
        for (var i = 0u; i < 4u; i++) { acc[i] += mb * ma[i]; }
      } else {
        let at = tx * STRIDE + q;
        let next = SIDE * STRIDE;
        let mb = mat4x4f(tile_b[at], tile_b[at + next], tile_b[at + 2u * next], tile_b[at + 3u * next]);
        for (var i = 0u; i < 4u; i++) { acc[i] += ma[i] * mb; }
      }
    }
    workgroupBarrier();
  }

  let quads = params.cols / 4u;
  let col = col0 / 4u + tx;
  if (col >= quads) { return; }
  for (var i = 0u; i < 4u; i++) {
    let row = row0 + 4u * ty + i;
    if (row >= params.rows) { return; }
    var value = acc[i];
    if (params.has_bias != 0u) { value += bias[col]; }
    if (params.has_add != 0u) { value += add[row * quads + col]; }
    y[row * quads + col] = value;
  }
}
