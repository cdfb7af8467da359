// grad_a += vᵀ·x and grad_b[n, j] += scale · Σ_t dy[t, n]·u[t, group(n)·rank + j], any sizes.
// uv = [u | v]: (tokens, 2·cols), x: (tokens, depth), dy: (tokens, rows); grad_a: (cols, depth),
// grad_b: (rows, rank). One element a thread: first those of grad_a, then those of grad_b.

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (wid.x + wid.y * groups.x) * 64u + lane;
  let of_a = params.cols * params.depth;
  let stride = 2u * params.cols;
  var sum = 0.0;
  if (i < of_a) {
    let c = params.cols + i / params.depth;
    let k = i % params.depth;
    for (var t = 0u; t < params.tokens; t++) { sum += uv[t * stride + c] * x[t * params.depth + k]; }
    grad_a[i] += sum;
  } else if (i - of_a < params.rows * params.rank) {
    let n = (i - of_a) / params.rank;
    let j = (i - of_a) % params.rank;
    let group = select(0u, 1u, n >= params.end0) + select(0u, 1u, n >= params.end1);
    let c = group * params.rank + j;
    for (var t = 0u; t < params.tokens; t++) { sum += dy[t * params.rows + n] * uv[t * stride + c]; }
    grad_b[i - of_a] += params.scale * sum;
  }
}
