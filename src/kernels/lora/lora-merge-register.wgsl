// merged[n] = weight[n] + scale · Σ_j b[n, j] · a[group(n)·rank + j]; exactly weight where b is 0.
// weight, merged: (rows, width), a: (groups·rank, width), b: (rows, rank); width and rank multiples of 4.
// 8 rows × 4 columns a thread in registers; for software adapters. A block of 8 rows lies in one group.

@compute @workgroup_size(4)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let quads = params.width / 4u;
  let i = (wid.x + wid.y * groups.x) * 4u + lane;
  var block = i / quads;
  let col = i % quads;
  let blocks0 = (params.end0 + 7u) / 8u;
  let blocks1 = (params.end1 - params.end0 + 7u) / 8u;
  var group = 0u;
  var start = 0u;
  var end = params.end0;
  if (block >= blocks0 + blocks1) {
    group = 2u;
    start = params.end1;
    end = params.rows;
    block -= blocks0 + blocks1;
  } else if (block >= blocks0) {
    group = 1u;
    start = params.end0;
    end = params.end1;
    block -= blocks0;
  }
  let row = start + 8u * block;
  if (row >= end) { return; }
  // rows past the end of the group repeat its last one and are not stored
  let last = end - 1u;
  let ranks = params.rank / 4u;
  let b0 = row * ranks;
  let b1 = min(row + 1u, last) * ranks;
  let b2 = min(row + 2u, last) * ranks;
  let b3 = min(row + 3u, last) * ranks;
  let b4 = min(row + 4u, last) * ranks;
  let b5 = min(row + 5u, last) * ranks;
  let b6 = min(row + 6u, last) * ranks;
  let b7 = min(row + 7u, last) * ranks;
  var y0 = vec4f();
  var y1 = vec4f();
  var y2 = vec4f();
  var y3 = vec4f();
  var y4 = vec4f();
  var y5 = vec4f();
  var y6 = vec4f();
  var y7 = vec4f();
  for (var j = 0u; j < ranks; j++) {
    let at = (group * params.rank + 4u * j) * quads + col;
    let m = transpose(mat4x4f(a[at], a[at + quads], a[at + 2u * quads], a[at + 3u * quads]));
    y0 += b[b0 + j] * m;
    y1 += b[b1 + j] * m;
    y2 += b[b2 + j] * m;
    y3 += b[b3 + j] * m;
    y4 += b[b4 + j] * m;
    y5 += b[b5 + j] * m;
    y6 += b[b6 + j] * m;
    y7 += b[b7 + j] * m;
  }
  let delta = array(y0, y1, y2, y3, y4, y5, y6, y7);
  for (var r = 0u; r < min(8u, end - row); r++) {
    let at = (row + r) * quads + col;
    merged[at] = weight[at] + params.scale * delta[r];
  }
}
