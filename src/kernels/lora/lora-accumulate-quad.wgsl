// grad_a += vᵀ·x and grad_b += scale · dyᵀ·u, group by group: 16 × 16 elements a quad of invocations,
// grad_b computed transposed so that uv is the left factor of both (see matmul-quad-tn).
// uv = [u | v]: (tokens, 2·cols), x: (tokens, depth), dy: (tokens, rows); grad_a: (cols, depth),
// grad_b: (rows, rank). All widths and group ends are multiples of 4 and counted in vec4s.

fn right(is_a: bool, at: u32) -> vec4f {
  var value: vec4f;
  if (is_a) { value = x[at]; } else { value = dy[at]; }
  return value;
}

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
  for (var k = 0u; k < params.tokens; k += 2u) {
    // an odd last token meets itself, weighted 0
    let k1 = min(k + 1u, params.tokens - 1u);
    let p = uv[left_at + k * left_next];
    let q = select(0.0, 1.0, k1 > k) * uv[left_at + k1 * left_next];
    let n = right(is_a, right_at + k * right_next);
    let m = right(is_a, right_at + k1 * right_next);
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
