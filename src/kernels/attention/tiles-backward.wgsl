// Appended to the backward attention-tile kernels: tiles of d_out (rows, heads·PARTS).

fn d_out_part(row: u32, last: u32, head: u32, chunk: u32, n: u32) -> vec4f {
  let part = chunk * STEP + n % STEP;
  let value = d_out[(min(row, last) * params.heads + head) * PARTS + min(part, PARTS - 1u)];
  return select(vec4f(), value, part < PARTS);
}

fn left_d_out(first: u32, last: u32, head: u32, chunk: u32, lane: u32) {
  for (var n = lane; n < TILE * STEP; n += 64u) {
    left[n / STEP * PITCH + n % STEP] = d_out_part(first + n / STEP, last, head, chunk, n);
  }
}

fn right_d_out(first: u32, last: u32, head: u32, chunk: u32, lane: u32) {
  for (var n = lane; n < TILE * STEP; n += 64u) {
    right[n / STEP * PITCH + n % STEP] = d_out_part(first + n / STEP, last, head, chunk, n);
  }
}
