// Backward of act = silu(gate) ⊙ up, in place of both inputs; act itself is made again (=) on the way:
//   d_gate = d_act · up · σ(gate) · (1 + gate·(1 − σ(gate)));  d_up = d_act · silu(gate)
// gate_up: (rows, 2·width), read then overwritten by its gradient; d_act: (rows, width), read then
// overwritten by act; f32 or vec4<f32> (width counts elements of it).

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (wid.x + wid.y * groups.x) * 64u + lane;
  if (i >= params.rows * params.width) { return; }
  let at = i + (i / params.width) * params.width;
  let g = gate_up[at];
  let u = gate_up[at + params.width];
  let d = d_act[i];
  let s = 1.0 / (1.0 + exp(-g));
  gate_up[at] = d * u * s * (1.0 + g * (1.0 - s));
  gate_up[at + params.width] = d * g * s;
  d_act[i] = g * s * u;
}
