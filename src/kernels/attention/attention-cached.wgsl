// Attention of one new token per sequence over its cached keys: a shared prefix, then its own rows.
// qkv: (rows, stride), cache_k, cache_v: (R, kv_heads·PARTS), f32 or vec4<f32> elements, PARTS of them a head;
// slots: (rows) vec4<u32> [prefix_start, prefix_len, own_start, own_len]; out: (rows, heads·PARTS·WIDTH) f32.
//
// A workgroup of LANES serves one (sequence, query head): each lane keeps a running softmax over
// every LANES-th key, and the partial results are merged at the end. An f32 element is spread over
// a vec4 so that one body serves both types; SHARE (1 or 1/4) undoes that in dot products.

const BATCH = 4u; // head elements merged per round
var<workgroup> tops: array<f32, LANES>;
var<workgroup> sums: array<f32, LANES>;
var<workgroup> partial: array<vec4f, LANES * BATCH>;

fn cache_row(key: u32, slot: vec4u) -> u32 {
  return select(slot.z + key - slot.y, slot.x + key, key < slot.y);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = wid.x + wid.y * groups.x;
  if (i >= params.rows * params.heads) { return; }
  let row = i / params.heads;
  let head = i % params.heads;
  let slot = slots[row];
  let keys = select(slot.y + slot.w, 0u, slot.w == 0u);
  let stride = params.kv_heads * PARTS;
  let column = head / (params.heads / params.kv_heads) * PARTS;
  let q_at = row * (params.heads + 2u * params.kv_heads) * PARTS + head * PARTS;

  var q: array<vec4f, PARTS>;
  var acc: array<vec4f, PARTS>;
  for (var c = 0u; c < PARTS; c++) { q[c] = vec4f(qkv[q_at + c]) * params.scale * SHARE; }
  var top = -1e30;
  var sum = 0.0;
  for (var first = lane; first < keys; first += 4u * LANES) {
    let key = first + vec4u(0u, LANES, 2u * LANES, 3u * LANES);
    let live = key < vec4u(keys);
    let near = min(key, vec4u(keys - 1u));
    let at0 = cache_row(near.x, slot) * stride + column;
    let at1 = cache_row(near.y, slot) * stride + column;
    let at2 = cache_row(near.z, slot) * stride + column;
    let at3 = cache_row(near.w, slot) * stride + column;
    var score = vec4f();
    for (var c = 0u; c < PARTS; c++) {
      let part = q[c];
      score += vec4f(
        dot(part, vec4f(cache_k[at0 + c])),
        dot(part, vec4f(cache_k[at1 + c])),
        dot(part, vec4f(cache_k[at2 + c])),
        dot(part, vec4f(cache_k[at3 + c])),
      );
    }
    score = select(vec4f(-1e30), score, live);
    let higher = max(top, max(max(score.x, score.y), max(score.z, score.w)));
    let keep = exp(top - higher);
    let p = select(vec4f(), exp(score - higher), live);
    for (var c = 0u; c < PARTS; c++) {
      acc[c] = acc[c] * keep + p.x * vec4f(cache_v[at0 + c]) + p.y * vec4f(cache_v[at1 + c])
        + p.z * vec4f(cache_v[at2 + c]) + p.w * vec4f(cache_v[at3 + c]);
    }
    sum = sum * keep + dot(p, vec4f(1.0));
    top = higher;
  }

  tops[lane] = top;
  sums[lane] = sum;
  workgroupBarrier();
  var highest = tops[0];
  for (var l = 1u; l < LANES; l++) { highest = max(highest, tops[l]); }
  var total = 0.0;
  for (var l = 0u; l < LANES; l++) { total += sums[l] * exp(tops[l] - highest); }
  // a finished sequence has no keys: its row is zero
  let weight = select(0.0, exp(top - highest) / total, total > 0.0);

  let out_at = (row * params.heads + head) * PARTS;
  for (var c = 0u; c < PARTS; c += BATCH) {
    for (var b = 0u; b < BATCH && c + b < PARTS; b++) { partial[b * LANES + lane] = acc[c + b] * weight; }
    workgroupBarrier();
    if (lane < BATCH && c + lane < PARTS) {
      var merged = vec4f();
      for (var l = 0u; l < LANES; l++) { merged += partial[lane * LANES + l]; }
      for (var e = 0u; e < WIDTH; e++) { out[(out_at + c + lane) * WIDTH + e] = merged[e]; }
    }
    workgroupBarrier();
  }
}
