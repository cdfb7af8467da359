// One chunk of a running list of the k largest logits of each row, one workgroup a row: for GPUs.
// logits: (rows, width) f32; before_ids, before_best: (rows, k), the lists of the chunks before, or anything at start 0;
// ids, best: (rows, k), the lists with this chunk, largest first, smaller ids first among equals.
// While fewer than k ids have been met only as many entries of a list mean something.
// The chunk's logits are found from the largest down, one a round, and merged with the list before.

const LANES = 128u;
const NONE = 0xffffffffu;
var<workgroup> values: array<f32, LANES>;
var<workgroup> columns: array<u32, LANES>;
var<workgroup> more: u32;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = wid.x + wid.y * groups.x;
  if (row >= params.rows) { return; }
  let list = row * params.k;
  let begin = row * params.width;
  let before = min(params.k, params.start);
  let size = min(params.k, params.start + params.width);
  var merged = 0u; // of the list before, by lane 0
  var written = 0u;
  var last_value = 0.0; // the logit found in the round before
  var last_column = NONE;

  loop {
    // the largest that comes after the last one
    var value = 0.0;
    var column = NONE;
    for (var i = lane; i < params.width; i += LANES) {
      let x = logits[begin + i];
      let open = last_column == NONE || x < last_value || (x == last_value && i > last_column);
      if (open && (column == NONE || x > value)) {
        value = x;
        column = i;
      }
    }
    values[lane] = value;
    columns[lane] = column;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
      if (lane < half) {
        let other = lane + half;
        let larger = values[other] > values[lane] || (values[other] == values[lane] && columns[other] < columns[lane]);
        if (columns[other] != NONE && (columns[lane] == NONE || larger)) {
          values[lane] = values[other];
          columns[lane] = columns[other];
        }
      }
      workgroupBarrier();
    }
    last_value = values[0];
    last_column = columns[0];
    if (lane == 0u) {
      let found = last_column != NONE;
      while (written < size && merged < before && (!found || before_best[list + merged] >= last_value)) {
        ids[list + written] = before_ids[list + merged];
        best[list + written] = before_best[list + merged];
        merged++;
        written++;
      }
      more = select(0u, 1u, found && written + 1u < size);
      if (found && written < size) {
        ids[list + written] = params.start + last_column;
        best[list + written] = last_value;
        written++;
      }
    }
    if (workgroupUniformLoad(&more) == 0u) { break; }
  }
}
