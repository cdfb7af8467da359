// One workgroup draws one sample's next token; contract and state layout in sample.ts and decode-state.ts.
// No sorting: a set of "the n largest, lower ids first among equals" is a threshold key and a number of
// equals kept, and the threshold is found two bits at a time by counting (top-k) or weighing (top-p).
// Barriers stand in uniform control flow: loop bounds come from params and constants only.

const NO_ROW = 0xffffffffu;
const STOPPED = 1u;
const OUT_OF_STEPS = 2u;
const EXPONENT = 0x7f800000u;
const NAN = 0x7fc00000u;
const BLOCK = 64u; // addends per partial sum, against rounding

var<workgroup> shared_sum: array<vec4f, LANES>;
var<workgroup> shared_ties: array<u32, LANES>;
var<workgroup> shared_done: u32;

/** The part of the vocabulary in which the draw falls. */
struct Cut {
  start: u32,
  end: u32,
  /** mass still to pass */
  mass: f32,
  /** tokens equal to the threshold still to keep */
  ties: u32,
}
var<workgroup> cut: Cut;

/** u32 in the order of the f32; −0 is 0. */
fn key_of(x: f32) -> u32 {
  let bits = bitcast<u32>(x);
  if (bits == 0x80000000u) { return 0x80000000u; }
  return select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
}

fn value_of(key: u32) -> f32 {
  return bitcast<f32>(select(~key, key & 0x7fffffffu, key >= 0x80000000u));
}

/** Sum over the workgroup, to every lane, in a fixed order. */
fn total(lane: u32, value: vec4f) -> vec4f {
  shared_sum[lane] = value;
  workgroupBarrier();
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    if (lane < half) { shared_sum[lane] += shared_sum[lane + half]; }
    workgroupBarrier();
  }
  let sum = shared_sum[0];
  workgroupBarrier();
  return sum;
}

/** Maxima over the workgroup, to every lane. */
fn highest(lane: u32, value: vec2f) -> vec2f {
  shared_sum[lane] = vec4f(value, 0.0, 0.0);
  workgroupBarrier();
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    if (lane < half) { shared_sum[lane] = max(shared_sum[lane], shared_sum[lane + half]); }
    workgroupBarrier();
  }
  let top = shared_sum[0].xy;
  workgroupBarrier();
  return top;
}

/** Mass of a logit relative to the largest; 0 beyond what f32 can tell from 0. */
fn weight_of(x: f32, top: f32) -> f32 {
  return exp(max((x - top) / params.temperature, -200.0));
}

/** Σ over the row of [x ≥ key] · (weigh ? mass : 1), for four keys at once. */
fn measure(lane: u32, base: u32, top: f32, weigh: bool, keys: vec4u) -> vec4f {
  var sum = vec4f(0.0);
  var i = lane;
  while (i < params.vocabulary) {
    var part = vec4f(0.0);
    for (var j = 0u; j < BLOCK && i < params.vocabulary; j++) {
      let x = logits[base + i];
      var amount = 1.0;
      if (weigh) { amount = weight_of(x, top); }
      part += select(vec4f(0.0), vec4f(amount), vec4u(key_of(x)) >= keys);
      i += LANES;
    }
    sum += part;
  }
  return total(lane, sum);
}

/** The largest key with measure(key) ≥ goal, given that measure(least) ≥ goal; `least` if no larger one. */
fn threshold(lane: u32, base: u32, top: f32, weigh: bool, goal: f32, least: u32) -> u32 {
  var key = 0u;
  for (var shift = 32u; shift > 0u;) {
    shift -= 2u;
    let tries = vec4u(key) | (vec4u(0u, 1u, 2u, 3u) << vec4u(shift));
    let enough = (measure(lane, base, top, weigh, tries) >= vec4f(goal)) | (tries <= vec4u(least));
    key = select(select(select(tries.x, tries.y, enough.y), tries.z, enough.z), tries.w, enough.w);
  }
  return min(key, key_of(top));
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let b = wid.x + wid.y * groups.x;
  if (b >= params.samples) { return; }
  let done_at = 8u * params.stride + b;
  if (lane == 0u) { shared_done = state[done_at]; }
  if (workgroupUniformLoad(&shared_done) != 0u) { return; }
  let base = select(b * params.vocabulary, 0u, params.shared_logits == 1u);
  let step = state[7u * params.stride + b];

  // the largest logit, and the mass of the whole vocabulary relative to it; WGSL may assume that no NaN and no
  // infinity exists, so those are looked for in the bits
  var most = logits[base];
  var broken = 0.0;
  for (var i = lane; i < params.vocabulary; i += LANES) {
    let x = logits[base + i];
    most = max(most, x);
    broken = max(broken, select(0.0, 1.0, (bitcast<u32>(x) & EXPONENT) == EXPONENT));
  }
  let extremes = highest(lane, vec2f(most, broken));
  let top = extremes.x;
  let whole = measure(lane, base, top, true, vec4u(0u)).x;

  // kept: keys above `edge`, and the first `ties` ids whose key is `edge`
  var edge = 0u;
  var ties = 0u;
  let limited = params.top_k > 0u && params.top_k < params.vocabulary;
  if (params.top_k == 1u) {
    edge = key_of(top);
    ties = 1u;
  } else if (limited) {
    edge = threshold(lane, base, top, false, f32(params.top_k), 0u);
    ties = params.top_k - u32(measure(lane, base, top, false, vec4u(edge + 1u)).x);
  }
  if (params.top_k != 1u && params.top_p < 1.0) {
    var mass = whole;
    if (limited) {
      mass = measure(lane, base, top, true, vec4u(edge + 1u)).x + f32(ties) * weight_of(value_of(edge), top);
    }
    let goal = params.top_p * mass;
    let higher = threshold(lane, base, top, true, goal, edge);
    let missing = goal - measure(lane, base, top, true, vec4u(higher + 1u)).x;
    let wanted = max(1.0, ceil(missing / max(weight_of(value_of(higher), top), 1e-37)));
    let limit = select(params.vocabulary, ties, higher == edge);
    ties = min(u32(min(wanted, f32(params.vocabulary))), limit);
    edge = higher;
  }
  let edge_weight = select(0.0, weight_of(value_of(edge), top), ties > 0u);

  // inverse CDF in order of ids: split the part the draw falls in until it is one token
  let draw = philox4x32(vec4u(step, state[9u * params.stride + b], 0u, 0u), vec2u(params.seed_lo, params.seed_hi));
  let unit = f32(draw.x >> 8u) / 16777216.0;
  if (lane == 0u) { cut = Cut(0u, params.vocabulary, unit, ties); }
  workgroupBarrier();
  var size = params.vocabulary;
  while (size > 1u) {
    let part = (size + LANES - 1u) / LANES;
    let within = cut;
    let begin = min(within.start + lane * part, within.end);
    let end = min(begin + part, within.end);
    var sum = 0.0;
    var equals = 0u;
    for (var block = begin; block < end; block += BLOCK) {
      var subtotal = 0.0;
      let stop_at = min(block + BLOCK, end);
      for (var i = block; i < stop_at; i++) {
        let x = logits[base + i];
        let key = key_of(x);
        if (key > edge) { subtotal += weight_of(x, top); }
        equals += select(0u, 1u, key == edge);
      }
      sum += subtotal;
    }
    shared_sum[lane].x = sum;
    shared_ties[lane] = equals;
    workgroupBarrier();
    if (lane == 0u) {
      var goal = within.mass;
      if (size == params.vocabulary) {
        // `unit` becomes a mass; summed as it will be walked, so that the walk ends inside
        var left = within.ties;
        var kept = 0.0;
        for (var t = 0u; t < LANES; t++) {
          let take = min(shared_ties[t], left);
          left -= take;
          kept += shared_sum[t].x + f32(take) * edge_weight;
        }
        goal *= kept;
      }
      var left = within.ties;
      var passed = 0.0;
      var found = false;
      for (var t = 0u; t < LANES && !found; t++) {
        let take = min(shared_ties[t], left);
        let here = shared_sum[t].x + f32(take) * edge_weight;
        if (here > 0.0) {
          // remembered even if the draw lies beyond: rounding may leave it past the last kept token
          let start = min(within.start + t * part, within.end);
          cut = Cut(start, min(start + part, within.end), goal - passed, left);
          found = passed + here > goal;
        }
        passed += here;
        left -= take;
      }
    }
    workgroupBarrier();
    size = part;
  }
  if (lane > 0u) { return; }

  let token = cut.start;
  let logprob = (logits[base + token] - top) / params.temperature - log(whole);
  out_tokens[b * params.max_steps + step] = token;
  out_logprobs[b * params.max_steps + step] = select(bitcast<u32>(logprob), NAN, extremes.y > 0.0);

  let slot = 3u * params.stride + 4u * b;
  let prefix_len = state[slot + 1u];
  let own_len = state[slot + 3u];
  state[b] = token;
  state[params.stride + b] = prefix_len + own_len;
  state[7u * params.stride + b] = step + 1u;
  var done = select(0u, OUT_OF_STEPS, step + 1u >= params.max_steps);
  for (var i = 0u; i < params.stop_count; i++) {
    if (stop[i] == token) { done = STOPPED; }
  }
  state[done_at] = done;
  state[2u * params.stride + b] = select(state[slot + 2u] + own_len, NO_ROW, done > 0u);
  state[slot + 3u] = select(own_len + 1u, 0u, done > 0u);
}
