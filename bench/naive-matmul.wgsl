// The textbook kernel: one thread computes one element of y (rows, cols) = a (rows, depth) · b.
// b is (depth, cols), or (cols, depth) when transposed; b_col and b_depth are its strides.

@compute @workgroup_size(8, 8)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= params.cols || id.y >= params.rows) { return; }
  var sum = 0.0;
  for (var k = 0u; k < params.depth; k++) {
    sum += a[id.y * params.depth + k] * b[id.x * params.b_col + k * params.b_depth];
  }
  y[id.y * params.cols + id.x] = sum;
}
