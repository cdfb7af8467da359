// act = silu(gate) ⊙ up, from rows [gate | up].
// gate_up: (rows, 2·width) → act: (rows, width), f32 or vec4<f32> (width counts elements of it).

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (wid.x + wid.y * groups.x) * 64u + lane;
  if (i >= params.rows * params.width) { return; }
  let at = i + (i / params.width) * params.width;
  let g = gate_up[at];
  let u = gate_up[at + params.width];
  act[i] = g / (1.0 + exp(-g)) * u;
}
