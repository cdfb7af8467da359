// Rotary position embedding in place, pairing feature i with i + half of its head:
//   (a, b) → (a·cos − b·sin, b·cos + a·sin), angle by the row's position; direction −1 turns back.
// qkv: (rows, stride), its first `heads` heads of 2·half turn; table: (positions, half cos | half sin).
// Elements are f32 or vec4<f32>; half and stride count elements of that type.

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (wid.x + wid.y * groups.x) * 64u + lane;
  let pairs = params.heads * params.half;
  if (i >= params.rows * pairs) { return; }
  // one division each: on a CPU they cost as much as everything else here
  let row = i / pairs;
  let pair = i - row * pairs;
  let head = pair / params.half;
  let feature = pair - head * params.half;
  let at = row * params.stride + head * 2u * params.half + feature;
  let angle = positions[row] * 2u * params.half + feature;
  let c = table[angle];
  let s = table[angle + params.half] * params.direction;
  let a = qkv[at];
  let b = qkv[at + params.half];
  qkv[at] = a * c - b * s;
  qkv[at + params.half] = b * c + a * s;
}
