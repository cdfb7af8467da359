// grad_a += vᵀ·x and grad_b += scale · dyᵀ·u, group by group: 16 × 16 elements a quad of invocations,
// grad_b computed transposed so that uv is the left factor of both (see matmul-quad-tn).
// uv = [u | v]: (tokens, 2·cols), x: (tokens, depth), dy: (tokens, rows); grad_a: (cols, depth),
// grad_b: (rows, rank). All widths and group ends are multiples of 4 and counted in vec4s.

@compute @workgroup_size(4)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) sid: u32) {
  let lane = sid & 3u;
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
  let line = select(t % group_tiles, tile / across, is_a) * 4u;
  let lines = select(ranks, quads, is_a);
  let col = select(start + t / group_tiles * 4u, tile % across * 4u, is_a) + lane;
  let cols = select(end, width, is_a);
  // lines and columns past the end repeat the last one and are not stored
  let left_at = select(group * ranks, quads, is_a) + min(line + lane, lines - 1u);
  let left_next = 2u * quads;
  let right_at = min(col, cols - 1u);
  let right_next = select(params.rows / 4u, width, is_a);

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
  // two loops, of which one is empty: with a branch around the loads both sides would run, masked.
  // Tokens past the last one repeat it, weighted 0.
  let last = params.tokens - 1u;
  for (var k = 0u; k < select(0u, params.tokens, is_a); k += 4u) {
    let k1 = min(k + 1u, last);
    let k2 = min(k + 2u, last);
    let k3 = min(k + 3u, last);
    let p = transpose(mat4x4f(
      uv[left_at + k * left_next],
      select(0.0, 1.0, k1 > k) * uv[left_at + k1 * left_next],
      select(0.0, 1.0, k2 > k1) * uv[left_at + k2 * left_next],
      select(0.0, 1.0, k3 > k2) * uv[left_at + k3 * left_next],
    ));
    let m = transpose(mat4x4f(
      x[right_at + k * right_next],
      x[right_at + k1 * right_next],
      x[right_at + k2 * right_next],
      x[right_at + k3 * right_next],
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
  for (var k = 0u; k < select(params.tokens, 0u, is_a); k += 4u) {
    let k1 = min(k + 1u, last);
    let k2 = min(k + 2u, last);
    let k3 = min(k + 3u, last);
    let p = transpose(mat4x4f(
      uv[left_at + k * left_next],
      select(0.0, 1.0, k1 > k) * uv[left_at + k1 * left_next],
      select(0.0, 1.0, k2 > k1) * uv[left_at + k2 * left_next],
      select(0.0, 1.0, k3 > k2) * uv[left_at + k3 * left_next],
    ));
    let m = transpose(mat4x4f(
      dy[right_at + k * right_next],
      dy[right_at + k1 * right_next],
      dy[right_at + k2 * right_next],
      dy[right_at + k3 * right_next],
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

  if (col >= cols) { return; }
  // entry 4s + e is line 4(lane ^ s) + e of the tile
  let result = array(y00, y01, y02, y03, y10, y11, y12, y13, y20, y21, y22, y23, y30, y31, y32, y33);
  for (var s = 0u; s < 4u; s++) {
    let l = line + (lane ^ s); // in vec4s
    if (l >= lines) { continue; }
    let block = mat4x4f(result[4u * s], result[4u * s + 1u], result[4u * s + 2u], result[4u * s + 3u]);
    let turned = transpose(block);
    for (var e = 0u; e < 4u; e++) {
      if (is_a) {
        grad_a[(4u * l + e) * width + col] += block[e];
      } else {
        grad_b[(4u * col + e) * ranks + l] += params.scale * turned[e];
      }
    }
  }
}
