// Sets fault[0] where a term of the loss is NaN or infinite; leaves it as it is otherwise.
// loss: (count) f32 as bits.

const EXPONENT = 0x7f800000u;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (wid.x + wid.y * groups.x) * 64u + lane;
  if (i >= params.count) { return; }
  if ((loss[i] & EXPONENT) == EXPONENT) { atomicStore(&fault[0], 1u); }
}
