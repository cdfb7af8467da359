/**
 * Attention in a graph, over the padded batch (`padding.onnx.ts`). Query heads that share keys stand one below the
 * other: (S, KV, G·L, headDim). The matrices of scores live within one op; backward makes the probabilities anew by
 * the same softmax, which reads less memory than exp(score − lse) would.
 */
import type { Graph, Value } from '../../onnx/graph';
import { columns, type Columns } from '../columns';
import { add, concat, mul, reduce, reshape, sub, transpose } from '../operators';
import type { Deferred, OnnxLowering, TensorRef } from '../op';
import { scaleOf, type AttentionAttrs, type HeadAttrs } from './heads';
import { Padding, product, type HeadRun } from './padding.onnx';

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

/** What the queries of a block see. */
interface Seen {
  /** (S, KV, G·block, headDim) */
  readonly q: Value;
  /** (S, KV, E, headDim) */
  readonly k: Value;
  readonly v: Value;
  /** (S, KV, G·block, E): the keys that a query must not see far below the others, and their softmax */
  readonly scores: Value;
  readonly probabilities: Value;
}

/** What both directions share. */
class Padded {
  readonly graph: Graph;
  readonly places: Padding;
  readonly scale: Value;
  readonly #runs: Record<'q' | 'k' | 'v', HeadRun>;
  readonly #k: Value;
  readonly #v: Value;

  constructor(
    qkv: TensorRef,
    segments: TensorRef,
    readonly attrs: AttentionAttrs,
    on: OnnxLowering,
  ) {
    this.graph = on.graph;
    this.places = Padding.of(segments, on);
    this.scale = on.graph.f32(scaleOf(attrs));
    this.#runs = headRuns(qkv, attrs, on);
    this.#k = this.places.spread(this.#runs.k, attrs.headDim);
    this.#v = this.places.spread(this.#runs.v, attrs.headDim);
  }

  /** Block by block. */
  map<T>(of: (seen: Seen, block: number) => T): T[] {
    return this.places.blocks.map((_, block) => of(this.#seen(block), block));
  }

  #seen(block: number): Seen {
    const { graph, places, attrs } = this;
    const { heads, kvHeads, headDim } = attrs;
    const q = this.grouped(block, places.spread(this.#runs.q, headDim, block));
    const k = places.until(block, this.#k, kvHeads, headDim);
    const products = mul(graph, graph.node('MatMul', [q, this.turned(k)]), this.scale);
    const scores = add(graph, products, places.mask(block, heads / kvHeads));
    const probabilities = graph.node('Softmax', [scores], { axis: -1 });
    return { q, k, v: places.until(block, this.#v, kvHeads, headDim), scores, probabilities };
  }

  /** (S, H, block, n) as (S, KV, G·block, n) */
  grouped(block: number, x: Value, n = this.attrs.headDim): Value {
    const { heads, kvHeads } = this.attrs;
    const places = product(heads / kvHeads, this.places.blocks[block]!.length);
    return this.graph.shaped(reshape(this.graph, x, [0, kvHeads, -1, n]), ['S', kvHeads, places, n]);
  }

  /** Blocks (S, KV, G·block, n) → (T, H·n) */
  packed(blocks: readonly Value[], n = this.attrs.headDim): Value {
    const { heads } = this.attrs;
    const { graph, places } = this;
    const parts = blocks.map((x, block) =>
      graph.shaped(reshape(graph, x, [0, heads, -1, n]), ['S', heads, places.blocks[block]!.length, n]),
    );
    return places.gather(graph.shaped(concat(graph, parts, 2), ['S', heads, 'L', n]), heads, n);
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
  const padded = new Padded(inputs.qkv, inputs.segments, attrs, on);
  const blocks = padded.map((seen) => ({
    ...seen,
    out: graph.node('MatMul', [seen.probabilities, seen.v]),
  }));
  const lse = (): Value => {
    const ofBlocks = blocks.map(({ scores, probabilities }) => {
      // the largest probability is exp(largest score − lse)
      const largest = graph.node('Log', [reduce(graph, 'ReduceMax', probabilities, -1)]);
      return sub(graph, reduce(graph, 'ReduceMax', scores, -1), largest);
    });
    return padded.packed(ofBlocks, 1);
  };
  return { out: padded.packed(blocks.map(({ out }) => out)), lse: { kind: 'lse', whole: lse } };
}

export function attentionBackwardOnnx(
  inputs: { qkv: TensorRef; segments: TensorRef; out: TensorRef; d_out: TensorRef },
  attrs: AttentionAttrs,
  on: OnnxLowering,
): { d_qkv: Columns } {
  const { graph } = on;
  const { heads, kvHeads, headDim } = attrs;
  const padded = new Padded(inputs.qkv, inputs.segments, attrs, on);
  const { places, scale } = padded;
  const [out, dOut] = [on.value(inputs.out), on.value(inputs.d_out)];
  // (T, H, 1): the part of the softmax's gradient that all keys share
  const shared = reduce(graph, 'ReduceSum', reshape(graph, mul(graph, out, dOut), [0, heads, headDim]), 2);
  const run = { perRow: heads, first: 0, count: heads };

  let dK: Value | undefined;
  let dV: Value | undefined;
  const dQ = padded.map(({ q, k, v, probabilities }, block) => {
    // no gradient comes from behind the ends
    const real = (value: Value, width: number): Value =>
      padded.grouped(
        block,
        mul(graph, places.spread({ ...run, value }, width, block), places.real(block)),
        width,
      );
    const [d, delta] = [real(dOut, headDim), real(shared, 1)];
    const grown = (before: Value | undefined, own: Value): Value =>
      before ? add(graph, places.widened(block, before, kvHeads, headDim), own) : own;

    dV = grown(dV, graph.node('MatMul', [padded.turned(probabilities), d]));
    const dP = graph.node('MatMul', [d, padded.turned(v)]);
    const dScores = mul(graph, probabilities, sub(graph, dP, delta));
    dK = grown(dK, mul(graph, graph.node('MatMul', [padded.turned(dScores), q]), scale));
    return mul(graph, graph.node('MatMul', [dScores, k]), scale);
  });
  const parts = [
    padded.packed(dQ),
    places.gather(dK!, kvHeads, headDim),
    places.gather(dV!, kvHeads, headDim),
  ];
  return { d_qkv: columns(graph, parts, [heads * headDim, kvHeads * headDim, kvHeads * headDim]) };
}
