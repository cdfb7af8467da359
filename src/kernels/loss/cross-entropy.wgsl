// loss = −w·lp;  d_logprob = −w.  All (count) f32.

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (wid.x + wid.y * groups.x) * 64u + lane;
  if (i >= params.count) { return; }
  let w = weights[i];
  loss[i] = -w * logprob[i];
  d_logprob[i] = -w;
}
