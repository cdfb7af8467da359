// Appended to the attention-quad kernels: eight vec4 of a head at once, held in registers, and products
// of one lane's own parts with those of the four lanes of its quad. Each lane loads different rows and
// the quad shares them: on a CPU a load costs ten times a multiply-add.

const CHUNK = 8u;

struct Parts { a: vec4f, b: vec4f, c: vec4f, d: vec4f, e: vec4f, f: vec4f, g: vec4f, h: vec4f }

// Index of part `i`, kept inside the head of PARTS parts.
fn within(i: u32) -> u32 { return min(i, PARTS - 1u); }

// Parts [part, part + CHUNK) of the head at `at`; past its end the last part repeats.
fn load_qkv(at: u32, part: u32) -> Parts {
  return Parts(
    qkv[at + within(part)], qkv[at + within(part + 1u)], qkv[at + within(part + 2u)], qkv[at + within(part + 3u)],
    qkv[at + within(part + 4u)], qkv[at + within(part + 5u)], qkv[at + within(part + 6u)], qkv[at + within(part + 7u)],
  );
}

// x·factor, zero past the end of the head.
fn scaled(x: Parts, part: u32, factor: f32) -> Parts {
  return Parts(
    x.a * factor,
    x.b * select(0.0, factor, part + 1u < PARTS),
    x.c * select(0.0, factor, part + 2u < PARTS),
    x.d * select(0.0, factor, part + 3u < PARTS),
    x.e * select(0.0, factor, part + 4u < PARTS),
    x.f * select(0.0, factor, part + 5u < PARTS),
    x.g * select(0.0, factor, part + 6u < PARTS),
    x.h * select(0.0, factor, part + 7u < PARTS),
  );
}

// Σ x·y of this lane alone.
fn own_dot(x: Parts, y: Parts) -> f32 {
  return dot(x.a, y.a) + dot(x.b, y.b) + dot(x.c, y.c) + dot(x.d, y.d)
    + dot(x.e, y.e) + dot(x.f, y.f) + dot(x.g, y.g) + dot(x.h, y.h);
}

// This lane's x with the y of each lane of the quad.
fn quad_dots(x: Parts, y: Parts) -> vec4f {
  return vec4f(
    dot(x.a, quadBroadcast(y.a, 0u)) + dot(x.b, quadBroadcast(y.b, 0u))
      + dot(x.c, quadBroadcast(y.c, 0u)) + dot(x.d, quadBroadcast(y.d, 0u))
      + dot(x.e, quadBroadcast(y.e, 0u)) + dot(x.f, quadBroadcast(y.f, 0u))
      + dot(x.g, quadBroadcast(y.g, 0u)) + dot(x.h, quadBroadcast(y.h, 0u)),
    dot(x.a, quadBroadcast(y.a, 1u)) + dot(x.b, quadBroadcast(y.b, 1u))
      + dot(x.c, quadBroadcast(y.c, 1u)) + dot(x.d, quadBroadcast(y.d, 1u))
      + dot(x.e, quadBroadcast(y.e, 1u)) + dot(x.f, quadBroadcast(y.f, 1u))
      + dot(x.g, quadBroadcast(y.g, 1u)) + dot(x.h, quadBroadcast(y.h, 1u)),
    dot(x.a, quadBroadcast(y.a, 2u)) + dot(x.b, quadBroadcast(y.b, 2u))
      + dot(x.c, quadBroadcast(y.c, 2u)) + dot(x.d, quadBroadcast(y.d, 2u))
      + dot(x.e, quadBroadcast(y.e, 2u)) + dot(x.f, quadBroadcast(y.f, 2u))
      + dot(x.g, quadBroadcast(y.g, 2u)) + dot(x.h, quadBroadcast(y.h, 2u)),
    dot(x.a, quadBroadcast(y.a, 3u)) + dot(x.b, quadBroadcast(y.b, 3u))
      + dot(x.c, quadBroadcast(y.c, 3u)) + dot(x.d, quadBroadcast(y.d, 3u))
      + dot(x.e, quadBroadcast(y.e, 3u)) + dot(x.f, quadBroadcast(y.f, 3u))
      + dot(x.g, quadBroadcast(y.g, 3u)) + dot(x.h, quadBroadcast(y.h, 3u)),
  );
}

fn quad_sum4(y: vec4f, p: vec4f) -> vec4f {
  return p.x * quadBroadcast(y, 0u) + p.y * quadBroadcast(y, 1u) + p.z * quadBroadcast(y, 2u) + p.w * quadBroadcast(y, 3u);
}

// x·keep + Σ p[lane]·(y of that lane), over the lanes of the quad.
fn quad_sum(x: Parts, keep: f32, y: Parts, p: vec4f) -> Parts {
  return Parts(
    x.a * keep + quad_sum4(y.a, p), x.b * keep + quad_sum4(y.b, p),
    x.c * keep + quad_sum4(y.c, p), x.d * keep + quad_sum4(y.d, p),
    x.e * keep + quad_sum4(y.e, p), x.f * keep + quad_sum4(y.f, p),
    x.g * keep + quad_sum4(y.g, p), x.h * keep + quad_sum4(y.h, p),
  );
}
