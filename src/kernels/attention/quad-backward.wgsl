// Appended to the backward attention-quad kernels: slices of d_out (rows, heads·PARTS) and of d_qkv.

fn load_d_out(at: u32, lane: u32) -> Slice {
  var s = Slice();
  s.a = d_out[at + part(lane, 0u)];
  if (SLICES > 1u) { s.b = d_out[at + part(lane, 1u)]; }
  if (SLICES > 2u) { s.c = d_out[at + part(lane, 2u)]; }
  if (SLICES > 3u) { s.d = d_out[at + part(lane, 3u)]; }
  return s;
}

fn store(at: u32, x: Slice, lane: u32) {
  if (lane < PARTS) { d_qkv[at + lane] = x.a; }
  if (SLICES > 1u) { if (4u + lane < PARTS) { d_qkv[at + 4u + lane] = x.b; } }
  if (SLICES > 2u) { if (8u + lane < PARTS) { d_qkv[at + 8u + lane] = x.c; } }
  if (SLICES > 3u) { if (12u + lane < PARTS) { d_qkv[at + 12u + lane] = x.d; } }
}
