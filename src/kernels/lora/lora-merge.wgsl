// merged[n] = weight[n] + scale · Σ_j b[n, j] · a[group(n)·rank + j]; exactly weight where b is 0.
// weight, merged: (rows, width); a: (groups·rank, width); b: (rows, rank). Width counts elements of the
// bindings (f32 or vec4<f32>). Rows before end0 are group 0, before end1 group 1, the rest group 2.

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (wid.x + wid.y * groups.x) * 64u + lane;
  let n = i / params.width;
  if (n >= params.rows) { return; }
  let group = select(0u, 1u, n >= params.end0) + select(0u, 1u, n >= params.end1);
  let bn = n * params.rank;
  var at = group * params.rank * params.width + i % params.width;
  var delta = b[bn] * a[at];
  for (var j = 1u; j < params.rank; j++) {
    at += params.width;
    delta += b[bn + j] * a[at];
  }
  merged[i] = weight[i] + params.scale * delta;
}
