// Where fault[0] is set: grads = saved, or 0 where nothing was saved. Else nothing.
// grads, saved: (count) f32, as bits since they may be anything.

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) gid: vec3u, @builtin(num_workgroups) groups: vec3u) {
  if (fault[0] == 0u) { return; }
  for (var i = gid.x; i < params.count; i += groups.x * 64u) {
    grads[i] = select(0u, saved[i], params.has_saved == 1u);
  }
}
