// Appended to the attention-tile kernels: products of 32 × 32 rows through workgroup memory, STEP vec4 of
// the head at a time. Invocation (y, x) of 8 × 8 owns rows 4y … 4y+3 and columns x, x+8, x+16, x+24.

const TILE = 32u;
const STEP = 8u;
const CHUNKS = (PARTS + STEP - 1u) / STEP;
const PITCH = STEP + 1u; // one more than needed, against bank conflicts

var<workgroup> left: array<vec4f, TILE * PITCH>;
var<workgroup> right: array<vec4f, TILE * PITCH>;
var<workgroup> weights: array<f32, TILE * TILE>; // (column, row)

fn stride() -> u32 { return (params.heads + 2u * params.kv_heads) * PARTS; }

// Part `chunk·STEP + n % STEP` of a head of qkv, zero past its end; `row` is clamped to `last`.
fn qkv_part(row: u32, last: u32, column: u32, chunk: u32, n: u32) -> vec4f {
  let part = chunk * STEP + n % STEP;
  let value = qkv[min(row, last) * stride() + column + min(part, PARTS - 1u)];
  return select(vec4f(), value, part < PARTS);
}

fn left_qkv(first: u32, last: u32, column: u32, chunk: u32, lane: u32) {
  for (var n = lane; n < TILE * STEP; n += 64u) {
    left[n / STEP * PITCH + n % STEP] = qkv_part(first + n / STEP, last, column, chunk, n);
  }
}

fn right_qkv(first: u32, last: u32, column: u32, chunk: u32, lane: u32) {
  for (var n = lane; n < TILE * STEP; n += 64u) {
    right[n / STEP * PITCH + n % STEP] = qkv_part(first + n / STEP, last, column, chunk, n);
  }
}

// s[r][c] of this invocation += left rows · right rows, over the parts now in memory.
fn add_dots(s: array<vec4f, 4>, y: u32, x: u32) -> array<vec4f, 4> {
  var sums = s;
  for (var c = 0u; c < STEP; c++) {
    let b0 = right[x * PITCH + c];
    let b1 = right[(x + 8u) * PITCH + c];
    let b2 = right[(x + 16u) * PITCH + c];
    let b3 = right[(x + 24u) * PITCH + c];
    for (var r = 0u; r < 4u; r++) {
      let a = left[(4u * y + r) * PITCH + c];
      sums[r] += vec4f(dot(a, b0), dot(a, b1), dot(a, b2), dot(a, b3));
    }
  }
  return sums;
}

fn store_weights(s: array<vec4f, 4>, y: u32, x: u32) {
  var values = s;
  for (var r = 0u; r < 4u; r++) {
    for (var c = 0u; c < 4u; c++) { weights[(x + 8u * c) * TILE + 4u * y + r] = values[r][c]; }
  }
}

// Σ over the columns n: weights[n][row]·(part x of right row n), for the four rows of this invocation.
fn weighted(y: u32, x: u32) -> array<vec4f, 4> {
  var sums = array<vec4f, 4>();
  for (var n = 0u; n < TILE; n++) {
    let value = right[n * PITCH + x];
    let at = n * TILE + 4u * y;
    sums[0] += weights[at] * value;
    sums[1] += weights[at + 1u] * value;
    sums[2] += weights[at + 2u] * value;
    sums[3] += weights[at + 3u] * value;
  }
  return sums;
}
