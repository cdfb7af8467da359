// Appended to the attention-quad kernels. A quad of lanes works on the same rows; each lane holds its own
// quarter of a head (every fourth part, up to SLICES vec4), so that one load brings four different parts.

struct Slice { a: vec4f, b: vec4f, c: vec4f, d: vec4f }

// Index of the n-th part of this lane, kept inside the head.
fn part(lane: u32, n: u32) -> u32 { return min(n * 4u + lane, PARTS - 1u); }

fn load_qkv(at: u32, lane: u32) -> Slice {
  var s = Slice();
  s.a = qkv[at + part(lane, 0u)];
  if (SLICES > 1u) { s.b = qkv[at + part(lane, 1u)]; }
  if (SLICES > 2u) { s.c = qkv[at + part(lane, 2u)]; }
  if (SLICES > 3u) { s.d = qkv[at + part(lane, 3u)]; }
  return s;
}

fn load_four(at0: u32, at1: u32, at2: u32, at3: u32, lane: u32) -> array<Slice, 4> {
  return array(load_qkv(at0, lane), load_qkv(at1, lane), load_qkv(at2, lane), load_qkv(at3, lane));
}

// x·factor, and zero where this lane has no such part: those must not count in sums over the quad.
fn owned(x: Slice, lane: u32, factor: f32) -> Slice {
  return Slice(
    x.a * select(0.0, factor, lane < PARTS),
    x.b * select(0.0, factor, 4u + lane < PARTS),
    x.c * select(0.0, factor, 8u + lane < PARTS),
    x.d * select(0.0, factor, 12u + lane < PARTS),
  );
}

fn slice_dot(x: Slice, y: Slice) -> f32 {
  if (SLICES > 2u) { return dot(x.a, y.a) + dot(x.b, y.b) + dot(x.c, y.c) + dot(x.d, y.d); }
  return dot(x.a, y.a) + dot(x.b, y.b);
}

// x·y_n summed over the quad, for the n of this lane: each lane adds the halves it keeps to those it is sent.
fn quad_dot(x: Slice, y: array<Slice, 4>, lane: u32) -> f32 {
  let odd = (lane & 1u) != 0u;
  let high = lane > 1u;
  let even_part = vec2f(slice_dot(x, y[0]), slice_dot(x, y[2]));
  let odd_part = vec2f(slice_dot(x, y[1]), slice_dot(x, y[3]));
  let half = select(even_part, odd_part, odd) + quadSwapX(select(odd_part, even_part, odd));
  return select(half.x, half.y, high) + quadSwapY(select(half.y, half.x, high));
}

fn mix4(x: vec4f, y0: vec4f, y1: vec4f, y2: vec4f, y3: vec4f, p: vec4f) -> vec4f {
  return x + p.x * y0 + p.y * y1 + p.z * y2 + p.w * y3;
}

fn quad_sum(x: f32) -> f32 {
  let pair = x + quadSwapX(x);
  return pair + quadSwapY(pair);
}

// The value of each lane of the quad.
fn quad_values(x: f32) -> vec4f {
  return vec4f(quadBroadcast(x, 0u), quadBroadcast(x, 1u), quadBroadcast(x, 2u), quadBroadcast(x, 3u));
}

// x·keep + Σ p[n]·y[n].
fn mix(x: Slice, keep: f32, y: array<Slice, 4>, p: vec4f) -> Slice {
  var s = Slice();
  s.a = mix4(x.a * keep, y[0].a, y[1].a, y[2].a, y[3].a, p);
  if (SLICES > 1u) { s.b = mix4(x.b * keep, y[0].b, y[1].b, y[2].b, y[3].b, p); }
  if (SLICES > 2u) { s.c = mix4(x.c * keep, y[0].c, y[1].c, y[2].c, y[3].c, p); }
  if (SLICES > 3u) { s.d = mix4(x.d * keep, y[0].d, y[1].d, y[2].d, y[3].d, p); }
  return s;
}
