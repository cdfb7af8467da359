// Backward of act = silu(gate) ⊙ up, in place of the forward input (d_gate_up = …):
//   d_gate = d_act · up · σ(gate) · (1 + gate·(1 − σ(gate)));  d_up = d_act · silu(gate)
// gate_up: (rows, 2·width) f32, read then overwritten by its gradient; d_act: (rows, width) f32.

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (wid.x + wid.y * groups.x) * 64u + lane;
  let quads = params.width / 4u;
  if (i >= params.rows * quads) { return; }
  let at = (i / quads) * 2u * quads + i % quads;
  let g = gate_up[at];
  let u = gate_up[at + quads];
  let d = d_act[i];
  let s = 1.0 / (1.0 + exp(-g));
  gate_up[at] = d * u * s * (1.0 + g * (1.0 - s));
  gate_up[at + quads] = d * g * s;
}
