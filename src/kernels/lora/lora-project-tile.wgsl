// uv = [x·Aᵀ | scale · dy·B], group by group: 16 tokens × 16 columns a workgroup, 4 × 4 a thread, the depth
// split over four slices of threads that are summed through workgroup memory; for GPUs.
// x: (tokens, depth), dy: (tokens, rows), a: (cols, depth), b: (rows, rank), uv: (tokens, 2·cols);
// cols = groups·rank; rows before end0 are group 0, before end1 group 1, the rest group 2.
// All widths and group ends are multiples of 4 and counted in vec4s.

const SLICES = 4u;
var<workgroup> partial: array<array<vec4f, 4>, 16u * SLICES>;

@compute @workgroup_size(16u * SLICES)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let width = params.depth / 4u;
  let lines = params.rows / 4u;
  let quads = params.cols / 4u;
  let ranks = params.rank / 4u;
  // the tiles along a row of tokens: first those of u, then those of v, group by group
  let u_tiles = (quads + 3u) / 4u;
  let group_tiles = (ranks + 3u) / 4u;
  let tiles = u_tiles + quads / ranks * group_tiles;
  let tile = wid.x + wid.y * groups.x;
  let slice = lane / 16u;
  let row = tile / tiles * 16u + lane % 16u / 4u * 4u;
  let t = tile % tiles;
  let is_u = t < u_tiles;
  let group = (t - u_tiles) / group_tiles;
  let col = select((t - u_tiles) % group_tiles, t, is_u) * 4u + lane % 4u;
  let cols = select(ranks, quads, is_u);
  let start = select(select(params.end1, params.end0, group == 1u), 0u, group == 0u) / 4u;
  let end = select(select(params.rows, params.end1, group == 1u), params.end0, group == 0u) / 4u;

  // tokens and columns past the end repeat the last one and are not stored
  let last = params.tokens - 1u;
  let t0 = min(row, last);
  let t1 = min(row + 1u, last);
  let t2 = min(row + 2u, last);
  let t3 = min(row + 3u, last);
  let c = min(col, cols - 1u);
  var y: array<vec4f, 4>;
  if (is_u) {
    for (var k = slice; k < width; k += SLICES) {
      let at = 4u * c * width + k;
      let m = mat4x4f(a[at], a[at + width], a[at + 2u * width], a[at + 3u * width]);
      y[0] += x[t0 * width + k] * m;
      y[1] += x[t1 * width + k] * m;
      y[2] += x[t2 * width + k] * m;
      y[3] += x[t3 * width + k] * m;
    }
  } else {
    for (var n = start + slice; n < end; n += SLICES) {
      let at = 4u * n * ranks + c;
      let m = mat4x4f(b[at], b[at + ranks], b[at + 2u * ranks], b[at + 3u * ranks]);
      y[0] += m * dy[t0 * lines + n];
      y[1] += m * dy[t1 * lines + n];
      y[2] += m * dy[t2 * lines + n];
      y[3] += m * dy[t3 * lines + n];
    }
  }
  partial[lane] = y;
  workgroupBarrier();

  // slice s stores row s of every thread's block
  let r = row + slice;
  if (r >= params.tokens || col >= cols) { return; }
  var sum = vec4f();
  for (var s = 0u; s < SLICES; s++) { sum += partial[16u * s + lane % 16u][slice]; }
  let out = select(quads + group * ranks + col, col, is_u);
  uv[2u * r * quads + out] = select(params.scale, 1.0, is_u) * sum;
}
