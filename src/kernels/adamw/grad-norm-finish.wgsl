// Second stage: norm = √Σ partial, in one workgroup of LANES threads. In a fixed order, so that a repeat is bit-identical.
// partial, norm: f32 as bits; a partial that is NaN or infinite makes the norm NaN.

const EXPONENT = 0x7f800000u;
const NAN = 0x7fc00000u;

var<workgroup> sums: array<f32, LANES>;
var<workgroup> broken: array<u32, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(local_invocation_index) lane: u32) {
  var sum = 0.0;
  var bad = 0u;
  for (var i = lane; i < params.threads; i += LANES) {
    let bits = partial[i];
    if ((bits & EXPONENT) == EXPONENT) { bad = 1u; } else { sum += bitcast<f32>(bits); }
  }
  sums[lane] = sum;
  broken[lane] = bad;
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) {
      sums[lane] += sums[lane + half];
      broken[lane] |= broken[lane + half];
    }
  }
  if (lane == 0u) { norm[0] = select(bitcast<u32>(sqrt(sums[0])), NAN, broken[0] == 1u); }
}
