// act = silu(gate) ⊙ up, from rows [gate | up].
// gate_up: (rows, 2·width) f32 → act: (rows, width) f32, four columns a thread.

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (wid.x + wid.y * groups.x) * 64u + lane;
  let quads = params.width / 4u;
  if (i >= params.rows * quads) { return; }
  let row = i / quads;
  let col = i % quads;
  let g = gate_up[row * 2u * quads + col];
  let u = gate_up[(row * 2u + 1u) * quads + col];
  act[i] = g / (1.0 + exp(-g)) * u;
}
