// One AdamW step (Loshchilov & Hutter 2019, arXiv 1711.05101), in the order of torch.optim.AdamW, with the
// gradient scaled first as by torch.nn.utils.clip_grad_norm_:
//   g *= min(1, clip / (norm + 1e-6));  p *= 1 − lr·wd;  m += (1 − β1)(g − m);  v = β2·v + (1 − β2)·g²
//   p −= lr / (1 − β1ᵗ) · m / (√v / √(1 − β2ᵗ) + eps);  g = 0
// params, grads, m, v: P f32 in quads, updated in place. norm: 1 f32, as bits.
// A norm that is not finite leaves params, m and v as they are; the gradients are cleared all the same.

const EXPONENT = 0x7f800000u;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (wid.x + wid.y * groups.x) * 64u + lane;
  if (i >= params.quads) { return; }
  let bits = norm[0];
  if ((bits & EXPONENT) != EXPONENT) {
    var scale = 1.0;
    if (params.clip > 0.0) { scale = min(1.0, params.clip / (bitcast<f32>(bits) + 1e-6)); }
    let g = grads[i] * scale;
    let m1 = m[i] + params.one_minus_beta1 * (g - m[i]);
    let v1 = params.beta2 * v[i] + params.one_minus_beta2 * g * g;
    m[i] = m1;
    v[i] = v1;
    let update = m1 / (sqrt(v1) / params.root_bias2 + params.eps);
    weights[i] = weights[i] * params.decay - params.step_size * update;
  }
  grads[i] = vec4f(0.0);
}
