/**
 * Attention in a graph, over the padded batch (`padding.onnx.ts`). Query heads that share keys stand one below the
 * other: (S, KV, G·L, headDim). The matrices of scores live within one op; backward makes the probabilities anew by
 * the same softmax, which reads less memory than exp(score − lse) would.
 */
import type { Graph, Value } from '../../onnx/graph';
import { columns, type Columns } from '../columns';
import { add, mul, reduce, reshape, sub, transpose } from '../operators';
import type { Deferred, OnnxLowering, TensorRef } from '../op';
import { scaleOf, type AttentionAttrs, type HeadAttrs } from './heads';
import { Padding, type HeadRun } from './padding.onnx';

/** Where the heads of stacked rows are. */
export function headRuns(
  qkv: TensorRef,
  { heads, kvHeads, headDim }: HeadAttrs,
  on: OnnxLowering,
): Record<'q' | 'k' | 'v', HeadRun> {
  const left = on.parts<Columns>(qkv, 'columns');
  /** the run in the one part that has all of it */
  const find = (first: number, count: number): HeadRun | undefined => {
    let before = 0;
    for (const [i, value] of (left?.parts ?? []).entries()) {
      const perRow = left!.widths[i]! / headDim;
      const within = first - before;
      if (within >= 0 && within + count <= perRow) return { value, perRow, first: within, count };
      before += perRow;
    }
    return undefined;
  };
  const run = (first: number, count: number): HeadRun =>
    find(first, count) ?? { value: on.value(qkv), perRow: heads + 2 * kvHeads, first, count };
  return {
    q: run(0, heads),
    k: run(heads, kvHeads),
    v: run(heads + kvHeads, kvHeads),
  };
}

/** What both directions begin with. */
class Padded {
  readonly places: Padding;
  /** (S, KV, G·L, headDim) */
  readonly q: Value;
  /** (S, KV, L, headDim) */
  readonly k: Value;
  readonly v: Value;
  /** (S, KV, G·L, L), keys that a query must not see far below the others */
  readonly scores: Value;
  readonly probabilities: Value;
  readonly scale: Value;

  constructor(
    readonly graph: Graph,
    qkv: TensorRef,
    segments: TensorRef,
    readonly attrs: AttentionAttrs,
    on: OnnxLowering,
  ) {
    this.places = Padding.of(graph, on.value(segments));
    const runs = headRuns(qkv, attrs, on);
    const { heads, kvHeads, headDim } = attrs;
    this.q = this.grouped(this.places.spread(runs.q, headDim));
    this.k = this.places.spread(runs.k, headDim);
    this.v = this.places.spread(runs.v, headDim);
    this.scale = graph.f32(scaleOf(attrs));
    const products = graph.node('MatMul', [this.q, this.turned(this.k)]);
    this.scores = add(graph, mul(graph, products, this.scale), this.places.mask(heads / kvHeads));
    this.probabilities = graph.node('Softmax', [this.scores], { axis: -1 });
  }

  /** (S, H, L, n) as (S, KV, G·L, n) */
  grouped(x: Value, n = this.attrs.headDim): Value {
    return reshape(this.graph, x, [0, this.attrs.kvHeads, -1, n]);
  }

  /** The last two dimensions exchanged. */
  turned(x: Value): Value {
    return transpose(this.graph, x, [0, 1, 3, 2]);
  }
}

export function attentionOnnx(
  inputs: { qkv: TensorRef; segments: TensorRef },
  attrs: AttentionAttrs,
  on: OnnxLowering,
): { out: Value; lse: Deferred } {
  const { graph } = on;
  const { heads, headDim } = attrs;
  const { places, v, scores, probabilities } = new Padded(graph, inputs.qkv, inputs.segments, attrs, on);
  const out = graph.node('MatMul', [probabilities, v]);
  // the largest probability is exp(largest score − lse)
  const lse = (): Value => {
    const largest = graph.node('Log', [reduce(graph, 'ReduceMax', probabilities, -1)]);
    return places.gather(sub(graph, reduce(graph, 'ReduceMax', scores, -1), largest), heads, 1);
  };
  return { out: places.gather(out, heads, headDim), lse: { kind: 'lse', whole: lse } };
}

export function attentionBackwardOnnx(
  inputs: { qkv: TensorRef; segments: TensorRef; out: TensorRef; d_out: TensorRef },
  attrs: AttentionAttrs,
  on: OnnxLowering,
): { d_qkv: Columns } {
  const { graph } = on;
  const { heads, kvHeads, headDim } = attrs;
  const padded = new Padded(graph, inputs.qkv, inputs.segments, attrs, on);
  const { places, q, k, v, probabilities, scale } = padded;
  const [out, dOut] = [on.value(inputs.out), on.value(inputs.d_out)];
  // (T·H): the part of the softmax's gradient that all keys share
  const shared = reduce(graph, 'ReduceSum', reshape(graph, mul(graph, out, dOut), [-1, headDim]), 1);
  const run = { perRow: heads, first: 0, count: heads };
  // no gradient comes from behind the ends
  const real = (value: Value, width: number): Value =>
    padded.grouped(mul(graph, places.spread({ ...run, value }, width), places.real), width);
  const [d, delta] = [real(dOut, headDim), real(shared, 1)];

  const dV = graph.node('MatMul', [padded.turned(probabilities), d]);
  const dP = graph.node('MatMul', [d, padded.turned(v)]);
  const dScores = mul(graph, probabilities, sub(graph, dP, delta));
  const dQ = mul(graph, graph.node('MatMul', [dScores, k]), scale);
  const dK = mul(graph, graph.node('MatMul', [padded.turned(dScores), q]), scale);
  const parts = [
    places.gather(dQ, heads, headDim),
    places.gather(dK, kvHeads, headDim),
    places.gather(dV, kvHeads, headDim),
  ];
  return { d_qkv: columns(graph, parts, [heads * headDim, kvHeads * headDim, kvHeads * headDim]) };
}
