// grad_a += vᵀ·x and grad_b += scale · dyᵀ·u, group by group: 16 × 16 elements a workgroup, 4 × 4 a thread,
// the tokens split over sixteen slices of threads that are summed through workgroup memory; for GPUs.
// grad_b is computed transposed so that uv is the left factor of both.
// uv = [u | v]: (tokens, 2·cols), x: (tokens, depth), dy: (tokens, rows); grad_a: (cols, depth),
// grad_b: (rows, rank). All widths and group ends are multiples of 4 and counted in vec4s.

const SLICES = 16u;
var<workgroup> partial: array<vec4f, 16u * SLICES>;

@compute @workgroup_size(16u * SLICES)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let quads = params.cols / 4u;
  let ranks = params.rank / 4u;
  // the tiles: first those of grad_a, then those of grad_b, group by group
  let width = params.depth / 4u;
  let across = (width + 3u) / 4u;
  let group_tiles = (ranks + 3u) / 4u;
  let a_tiles = (quads + 3u) / 4u * across;
  let end0 = params.end0 / 4u;
  let end1 = params.end1 / 4u;
  let tile = wid.x + wid.y * groups.x;
  let is_a = tile < a_tiles;
  var t = tile - a_tiles;
  let tiles0 = (end0 + 3u) / 4u * group_tiles;
  let tiles1 = (end1 - end0 + 3u) / 4u * group_tiles;
  var group = 0u;
  var start = 0u;
  var end = end0;
  if (t >= tiles0 + tiles1) {
    group = 2u;
    start = end1;
    end = params.rows / 4u;
    t -= tiles0 + tiles1;
  } else if (t >= tiles0) {
    group = 1u;
    start = end0;
    end = end1;
    t -= tiles0;
  }
  let slice = lane / 16u;
  let line = select(t % group_tiles, tile / across, is_a) * 4u + lane % 16u / 4u;
  let lines = select(ranks, quads, is_a);
  let col = select(start + t / group_tiles * 4u, tile % across * 4u, is_a) + lane % 4u;
  let cols = select(end, width, is_a);
  // lines and columns past the end repeat the last one and are not stored
  let left_at = select(group * ranks, quads, is_a) + min(line, lines - 1u);
  let right_at = min(col, cols - 1u);

  var y: mat4x4f; // column e: line 4·line + e
  if (is_a) {
    for (var k = slice; k < params.tokens; k += SLICES) {
      let p = uv[left_at + 2u * k * quads];
      let n = x[right_at + k * width];
      y += mat4x4f(p.x * n, p.y * n, p.z * n, p.w * n);
    }
  } else {
    for (var k = slice; k < params.tokens; k += SLICES) {
      let p = uv[left_at + 2u * k * quads];
      let n = params.scale * dy[right_at + k * (params.rows / 4u)];
      y += mat4x4f(n.x * p, n.y * p, n.z * p, n.w * p);
    }
  }

  for (var e = 0u; e < 4u; e++) {
    partial[lane] = y[e];
    workgroupBarrier();
    for (var half = SLICES / 2u; half > 0u; half /= 2u) {
      if (slice < half) { partial[lane] += partial[lane + 16u * half]; }
      workgroupBarrier();
    }
    if (slice == 0u && line < lines && col < cols) {
      if (is_a) {
        grad_a[(4u * line + e) * width + col] += partial[lane];
      } else {
        grad_b[(4u * col + e) * ranks + line] += partial[lane];
      }
    }
    workgroupBarrier();
  }
}
