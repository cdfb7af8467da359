/**
 * Attention against the cache in a graph. A query's keys are of three kinds, each multiplied in the way that reads
 * least memory: those before the samples' own, which all samples share as a rule (one copy for all, from the first
 * start to the last end); each sample's own; and those of this pass, which are not in the cache yet.
 */
import type { Graph, Value } from '../../onnx/graph';
import { add, cast, concat, mul, reshape, slice, split, transpose } from '../operators';
import type { Deferred, OnnxLowering, TensorRef } from '../op';
import { headRuns } from './attention.onnx';
import { scaleOf, type AttentionAttrs, type HeadAttrs } from './heads';
import { HIDDEN, type HeadRun } from './padding.onnx';

/** A cache of which some rows have new contents. */
export interface PatchedCache extends Deferred {
  readonly kind: 'patched';
  /** (R, KV·headDim) as it was */
  readonly cache: Value;
  /** (B) i32, −1: none */
  readonly rows: Value;
  /** (B, KV·headDim) */
  readonly values: Value;
  readonly patch: { readonly rows: Value; readonly values: Value };
}

/** The columns of a run of heads: (rows, count·headDim). */
function runOf(graph: Graph, { value, perRow, first, count }: HeadRun, headDim: number): Value {
  if (count === perRow) return value;
  return slice(graph, value, 1, first * headDim, (first + count) * headDim);
}

export function kvAppendOnnx(
  inputs: Record<'qkv' | 'rows' | 'cache_k' | 'cache_v', TensorRef>,
  attrs: HeadAttrs,
  on: OnnxLowering,
): Record<'cache_k' | 'cache_v', PatchedCache> {
  const { graph } = on;
  const { k, v } = headRuns(inputs.qkv, attrs, on);
  const rows = on.value(inputs.rows);
  const patched = (ref: TensorRef, run: HeadRun): PatchedCache => {
    const cache = on.value(ref);
    const values = runOf(graph, run, attrs.headDim);
    const whole = (): Value => {
      // −1 means the last row: one behind the end takes what nobody keeps
      const longer = graph.node('Pad', [cache, graph.i64([0, 0, 1, 0])]);
      const at = cast(graph, graph.node('Unsqueeze', [rows, graph.i64([1])]), 'i64');
      const written = graph.node('ScatterND', [longer, at, values]);
      return slice(graph, written, 0, 0, -1);
    };
    return { kind: 'patched', cache, rows, values, patch: { rows, values }, whole };
  };
  return { cache_k: patched(inputs.cache_k, k), cache_v: patched(inputs.cache_v, v) };
}

/** What depends on the slots and the new rows alone; made once in a graph. P shared keys, n new ones, O own ones. */
class Reach {
  /** rows, in a cache of heads, of the shared keys (KV, P) and of each sample's own (B, KV, O) */
  readonly shared: Value;
  readonly own: Value;
  /** (B, 1, 1, P + n + O): added to the scores */
  readonly hidden: Value;
  /** (B, 1) bool */
  readonly ended: Value;
  /** [P, n] and [P + n, O] */
  readonly sharedAndNew: Value;
  readonly commonAndOwn: Value;
  /** [KV, B, G, P + n] and [KV, B·G, P + n] */
  readonly byHead: Value;
  readonly together: Value;

  constructor(
    readonly graph: Graph,
    slots: Value,
    rows: Value | undefined,
    cache: Value,
    { heads, kvHeads }: HeadAttrs,
  ) {
    const [zero, one] = [graph.i32(0), graph.i32(1)];
    const columns = split(graph, slots, 1, [1, 1, 1, 1]);
    const [prefix, prefixLength, own, ownLength] = columns as [Value, Value, Value, Value];
    const is = (op: string, a: Value, b: Value): Value => graph.node(op, [a, b], {}, 'bool');
    const both = (a: Value, b: Value): Value => graph.node('And', [a, b], {}, 'bool');
    const either = (condition: Value, a: Value, b: Value): Value =>
      graph.node('Where', [condition, a, b], {}, 'i32');
    const most = (op: 'ReduceMax' | 'ReduceMin', x: Value): Value => graph.node(op, [x], { keepdims: 0 });
    const size = (x: Value, axis: number): Value =>
      graph.node('Shape', [x], { start: axis, end: axis + 1 }, 'i64');
    const within = (row: Value, from: Value, length: Value): Value =>
      both(is('GreaterOrEqual', row, from), is('Less', row, add(graph, from, length)));

    this.ended = is('Equal', ownLength, zero);
    const running = graph.node('Not', [this.ended], {}, 'bool');
    const shares = both(running, is('Greater', prefixLength, zero));
    const end = most('ReduceMax', either(shares, add(graph, prefix, prefixLength), zero));
    const start = most('ReduceMin', either(shares, prefix, end));
    // no list of keys is empty: a key that nobody sees is simpler than none
    const sharedRows = graph.node('Range', [start, graph.node('Max', [end, add(graph, start, one)]), one]);
    const places = graph.node('Range', [zero, graph.node('Max', [most('ReduceMax', ownLength), one]), one]);
    let seesShared = both(running, within(sharedRows, prefix, prefixLength));
    let seesOwn = is('Less', places, ownLength);
    const ownRows = add(graph, own, either(seesOwn, places, zero));
    const sees: Value[] = [];
    if (rows) {
      // (R + 1): 1 where this pass has a new row; −1 is the last, which is none
      const length = add(graph, size(cache, 0), graph.i64([1]));
      const marks = graph.node('ScatterElements', [
        graph.node('Expand', [zero, length]),
        rows,
        graph.node('Expand', [one, size(rows, 0)]),
      ]);
      const old = (row: Value): Value => is('Equal', graph.node('Gather', [marks, row], { axis: 0 }), zero);
      seesShared = both(seesShared, old(sharedRows));
      seesOwn = both(seesOwn, old(ownRows));
      const reaches = [within(rows, prefix, prefixLength), within(rows, own, ownLength)];
      sees.push(both(running, graph.node('Or', reaches, {}, 'bool')));
    }
    sees.unshift(seesShared);

    const lengths = sees.map((x) => size(x, 1));
    this.sharedAndNew = concat(graph, lengths, 0);
    const common = lengths.reduce((a, b) => add(graph, a, b));
    this.commonAndOwn = concat(graph, [common, size(seesOwn, 1)], 0);
    const group = heads / kvHeads;
    const samples = size(slots, 0);
    this.byHead = concat(graph, [graph.i64([kvHeads]), samples, graph.i64([group]), common], 0);
    this.together = concat(graph, [graph.i64([kvHeads]), mul(graph, samples, graph.i64([group])), common], 0);
    const seen = concat(graph, [...sees, seesOwn], 1);
    const hidden = graph.node('Where', [seen, graph.f32(0), graph.f32(HIDDEN)], {}, 'f32');
    this.hidden = graph.node('Unsqueeze', [hidden, graph.i64([1, 2])]);

    const ofHeads = (row: Value): Value => {
      const first = graph.node('Unsqueeze', [mul(graph, row, graph.i32(kvHeads)), graph.i64([-2])]);
      const head = graph.i32(Array.from({ length: kvHeads }, (_, h) => h));
      return add(graph, first, reshape(graph, head, [-1, 1]));
    };
    this.shared = ofHeads(sharedRows);
    // a row that is not seen may hold anything, and 0 · NaN is no 0: a shared one is read instead
    this.own = ofHeads(either(seesOwn, ownRows, start));
  }
}

export function attentionCachedOnnx(
  inputs: Record<'qkv' | 'cache_k' | 'cache_v' | 'slots', TensorRef>,
  attrs: AttentionAttrs,
  on: OnnxLowering,
): { out: Value } {
  const { graph } = on;
  const { heads, kvHeads, headDim } = attrs;
  const group = heads / kvHeads;
  const slots = on.value(inputs.slots);
  const product = (a: Value, b: Value): Value => graph.node('MatMul', [a, b]);
  const shaped = (x: Value, shape: Value): Value => graph.node('Reshape', [x, shape]);

  const patched = [inputs.cache_k, inputs.cache_v].map((ref) => on.parts<PatchedCache>(ref, 'patched'));
  const [newK, newV] = patched;
  const cache = newK?.cache ?? on.value(inputs.cache_k);
  const reach = graph.once(
    `reach of ${slots.name} and ${newK?.rows.name}`,
    () => new Reach(graph, slots, newK?.rows, cache, attrs),
  );
  /** keys or values: (KV, P, headDim), (KV, n, headDim), (B, KV, O, headDim) */
  const stretches = (ref: TensorRef, patch: PatchedCache | undefined) => {
    const rows = reshape(graph, patch?.cache ?? on.value(ref), [-1, headDim]);
    const fresh = patch && reshape(graph, patch.values, [-1, kvHeads, headDim]);
    return {
      shared: graph.node('Gather', [rows, reach.shared], { axis: 0 }),
      fresh: fresh && transpose(graph, fresh, [1, 0, 2]),
      own: graph.node('Gather', [rows, reach.own], { axis: 0 }),
    };
  };
  const keys = stretches(inputs.cache_k, newK);
  const values = stretches(inputs.cache_v, newV);

  // (B, KV, G, headDim), and for the keys that all read (KV, B·G, headDim)
  const columns = runOf(graph, headRuns(inputs.qkv, attrs, on).q, headDim);
  const scaled = mul(graph, columns, graph.f32(scaleOf(attrs)));
  const q = reshape(graph, scaled, [-1, kvHeads, group, headDim]);
  const swapped = (x: Value): Value => transpose(graph, x, [1, 0, 2, 3]);
  const qs = reshape(graph, swapped(q), [kvHeads, -1, headDim]);

  const common = [product(qs, transpose(graph, keys.shared, [0, 2, 1]))];
  if (keys.fresh) common.push(product(qs, transpose(graph, keys.fresh, [0, 2, 1])));
  const scores = [
    swapped(shaped(concat(graph, common, 2), reach.byHead)),
    product(q, transpose(graph, keys.own, [0, 1, 3, 2])),
  ];
  const weights = graph.node('Softmax', [add(graph, concat(graph, scores, 3), reach.hidden)], { axis: -1 });
  const [forCommon, forOwn] = graph.split('Split', [weights, reach.commonAndOwn], 2, { axis: 3 });
  const inCommon = shaped(swapped(forCommon!), reach.together);
  const [forShared, forFresh] = values.fresh
    ? graph.split('Split', [inCommon, reach.sharedAndNew], 2, { axis: 2 })
    : [inCommon];
  let read = product(forShared!, values.shared);
  if (values.fresh) read = add(graph, read, product(forFresh!, values.fresh));
  const out = add(
    graph,
    swapped(reshape(graph, read, [kvHeads, -1, group, headDim])),
    product(forOwn!, values.own),
  );
  const rows = reshape(graph, out, [-1, heads * headDim]);
  return { out: graph.node('Where', [reach.ended, graph.f32(0), rows], {}, 'f32') };
}
