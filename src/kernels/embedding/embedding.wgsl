// h[t] = weight[tokens[t]]: one row of the table per token.
// tokens: (rows) u32; weight: (vocabulary, width) → h: (rows, width), f32 or vec4<f32> (width counts elements of it).

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (wid.x + wid.y * groups.x) * 64u + lane;
  if (i >= params.rows * params.width) { return; }
  let row = i / params.width;
  h[i] = weight[tokens[row] * params.width + i - row * params.width];
}
