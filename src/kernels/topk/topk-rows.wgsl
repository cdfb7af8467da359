// One chunk of a running list of the k largest logits of each row, one thread a row: for software adapters.
// logits: (rows, width) f32; before_ids, before_best: (rows, k), the lists of the chunks before, or anything at start 0;
// ids, best: (rows, k), the lists with this chunk, largest first, smaller ids first among equals.
// While fewer than k ids have been met only as many entries of a list mean something.

@compute @workgroup_size(16)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = (wid.x + wid.y * groups.x) * 16u + lane;
  if (row >= params.rows) { return; }
  let list = row * params.k;
  var count = min(params.k, params.start);
  for (var at = list; at < list + count; at++) {
    ids[at] = before_ids[at];
    best[at] = before_best[at];
  }
  for (var column = 0u; column < params.width; column++) {
    let x = logits[row * params.width + column];
    if (count == params.k) {
      if (!(x > best[list + count - 1u])) { continue; }
    } else {
      count++;
    }
    // everything smaller moves down by one; equals have smaller ids and stay
    var at = list + count - 1u;
    for (; at > list && best[at - 1u] < x; at--) {
      ids[at] = ids[at - 1u];
      best[at] = best[at - 1u];
    }
    ids[at] = params.start + column;
    best[at] = x;
  }
}
