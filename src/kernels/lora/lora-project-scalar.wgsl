// uv = [x·Aᵀ | scale · dy·B], group by group, any sizes: one element of each half a thread.
// x: (tokens, depth), dy: (tokens, rows), a: (cols, depth), b: (rows, rank), uv: (tokens, 2·cols);
// cols = groups·rank; rows before end0 are group 0, before end1 group 1, the rest group 2.

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (wid.x + wid.y * groups.x) * 64u + lane;
  let t = i / params.cols;
  let c = i % params.cols;
  if (t >= params.tokens) { return; }
  var u = 0.0;
  for (var k = 0u; k < params.depth; k++) { u += x[t * params.depth + k] * a[c * params.depth + k]; }
  let group = c / params.rank;
  let j = c % params.rank;
  let start = select(select(params.end1, params.end0, group == 1u), 0u, group == 0u);
  let end = select(select(params.rows, params.end1, group == 1u), params.end0, group == 0u);
  var v = 0.0;
  for (var n = start; n < end; n++) { v += dy[t * params.rows + n] * b[n * params.rank + j]; }
  let at = 2u * t * params.cols + c;
  uv[at] = u;
  uv[at + params.cols] = params.scale * v;
}
