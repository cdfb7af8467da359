// u = x·Aᵀ and v = scale · dy·B, group by group: u, v: (tokens, cols) with cols = groups·rank,
// x: (tokens, depth), dy: (tokens, rows), a: (cols, depth), b: (rows, rank).
// One element of u and of v a thread.

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (wid.x + wid.y * groups.x) * 64u + lane;
  let t = i / params.cols;
  let c = i % params.cols;
  if (t >= params.tokens) { return; }
  var du = 0.0;
  for (var k = 0u; k < params.depth; k++) { du += x[t * params.depth + k] * a[c * params.depth + k]; }
  u[i] = du;
  let group = c / params.rank;
  let j = c % params.rank;
  let start = select(select(params.end1, params.end0, group == 1u), 0u, group == 0u);
  let end = select(select(params.rows, params.end1, group == 1u), params.end0, group == 0u);
  var dv = 0.0;
  for (var n = start; n < end; n++) { dv += dy[t * params.rows + n] * b[n * params.rank + j]; }
  v[i] = params.scale * dv;
}
