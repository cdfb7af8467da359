// y = weight ⊙ x·rstd with rstd = 1/√(mean(x²) + eps), row by row.
// x: (rows, width) → y: (rows, width), f32 or vec4<f32> (width counts elements of it); rstd: (rows) f32.
//
// PER_ROW invocations share a row: a whole workgroup on a GPU, a single one on a
// software adapter, where barriers cost more than they save. SHARE is 1 for vec4
// elements and 1/4 for f32 ones, which vec4f() repeats four times.

const GROUP = 64u;
var<workgroup> partial: array<f32, GROUP>;

@compute @workgroup_size(GROUP)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = (wid.x + wid.y * groups.x) * (GROUP / PER_ROW) + lane / PER_ROW;
  let first = lane % PER_ROW;
  let live = row < params.rows;
  let start = select(0u, row, live) * params.width;

  var squares = x[start] * 0.0;
  for (var i = first; i < params.width; i += PER_ROW) {
    let v = x[start + i];
    squares += v * v;
  }
  var total = dot(vec4f(squares), vec4f(SHARE));
  if (PER_ROW > 1u) {
    partial[lane] = total;
    workgroupBarrier();
    for (var step = PER_ROW / 2u; step > 0u; step /= 2u) {
      if (first < step) { partial[lane] += partial[lane + step]; }
      workgroupBarrier();
    }
    total = partial[lane - first];
  }
  let scale = inverseSqrt(total / params.features + params.eps);

  if (!live) { return; }
  for (var i = first; i < params.width; i += PER_ROW) {
    y[start + i] = x[start + i] * scale * weight[i];
  }
  if (first == 0u) { rstd[row] = scale; }
}
