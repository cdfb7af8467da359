// First stage of the global gradient norm: each thread's sum of squares.
// grads: P f32 in quads, as bits; partial: one f32 a thread, as bits.
// Everything is bits because WGSL may assume that no NaN and no infinity exists: a gradient that is one
// is recognised by its exponent, and its thread's partial becomes NaN.

const EXPONENT = 0x7f800000u;
const NAN = 0x7fc00000u;
const BLOCK = 64u; // quads per partial sum, against rounding

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let thread = gid.x;
  if (thread >= params.threads) { return; }
  let quads = (params.count + 3u) / 4u;
  var broken = false;
  var sum = 0.0;
  var i = thread;
  while (i < quads) {
    var part = vec4f(0.0);
    for (var j = 0u; j < BLOCK && i < quads; j++) {
      // past the end lies padding with unknown contents
      let inside = vec4u(0u, 1u, 2u, 3u) + 4u * i < vec4u(params.count);
      let bits = select(vec4u(0u), grads[i], inside);
      broken = broken || any((bits & vec4u(EXPONENT)) == vec4u(EXPONENT));
      let g = bitcast<vec4f>(bits);
      part += g * g;
      i += params.threads;
    }
    sum += (part.x + part.y) + (part.z + part.w);
  }
  partial[thread] = select(bitcast<u32>(sum), NAN, broken);
}
