// Copies the k and v columns of each new row to its row of the caches.
// qkv: (rows, stride); rows: (params.rows) u32, the row of the cache, 0xffffffff to skip; cache_k, cache_v: (R, width).
// Elements are f32 or vec4<f32>; width, first and stride count elements of that type.

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (wid.x + wid.y * groups.x) * 64u + lane;
  if (i >= params.rows * params.width) { return; }
  let row = i / params.width;
  let column = i % params.width;
  let slot = rows[row];
  if (slot == 0xffffffffu) { return; }
  let at = row * params.stride + params.first + column;
  cache_k[slot * params.width + column] = qkv[at];
  cache_v[slot * params.width + column] = qkv[at + params.width];
}
