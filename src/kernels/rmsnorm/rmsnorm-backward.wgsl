// Backward of y = weight ⊙ x·rstd, added to the gradient of the residual stream in place
// (residual = 1; with 0, dx is overwritten):
//   dx += rstd · (g − x · rstd² · mean(g ⊙ x)),  g = weight ⊙ dy
// x, dy, dx: (rows, width), f32 or vec4<f32> (width counts elements of it); rstd: (rows) f32.
// PER_ROW and SHARE as in rmsnorm.wgsl.

const GROUP = 64u;
var<workgroup> partial: array<f32, GROUP>;

@compute @workgroup_size(GROUP)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = (wid.x + wid.y * groups.x) * (GROUP / PER_ROW) + lane / PER_ROW;
  let first = lane % PER_ROW;
  let live = row < params.rows;
  let start = select(0u, row, live) * params.width;

  var products = x[start] * 0.0;
  for (var i = first; i < params.width; i += PER_ROW) {
    products += weight[i] * dy[start + i] * x[start + i];
  }
  var total = dot(vec4f(products), vec4f(SHARE));
  if (PER_ROW > 1u) {
    partial[lane] = total;
    workgroupBarrier();
    for (var step = PER_ROW / 2u; step > 0u; step /= 2u) {
      if (first < step) { partial[lane] += partial[lane + step]; }
      workgroupBarrier();
    }
    total = partial[lane - first];
  }

  if (!live) { return; }
  let scale = rstd[row];
  let pull = scale * scale * total / params.features;
  for (var i = first; i < params.width; i += PER_ROW) {
    let own = scale * (weight[i] * dy[start + i] - x[start + i] * pull);
    dx[start + i] = select(own, dx[start + i] + own, params.residual == 1u);
  }
}
