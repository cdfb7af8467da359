/**
 * Adapters in a graph. The merged weight is left in parts, so that it never takes memory: whoever multiplies by it
 * adds scale·(x·Aᵀ)·Bᵀ to x·Wᵀ. What belongs to row groups (q, k, v; gate, up) is left side by side, since those who
 * read it want it apart.
 */
import type { Graph, Value } from '../../onnx/graph';
import { columns, columnsOf, type Columns } from '../columns';
import { add, concat, gemm, split } from '../operators';
import type { Deferred, OnnxLowering, TensorRef } from '../op';
import type { LoraAttrs, LoraGradientInputs } from './lora';

/** weight + scale·B·A, not yet computed. */
export interface LoraMerged extends Deferred {
  readonly kind: 'lora-merged';
  /** x (T, K) → x·(weight + scale·B·A)ᵀ (+ addend), (T, N) */
  forward(x: TensorRef, addend: Value | undefined): Value | Columns;
  /** dy (T, N) → dy·(weight + scale·B·A) (+ addend), (T, K) */
  backward(dy: TensorRef, addend: Value | undefined): Value;
}

/** Rows of each group. */
const sizesOf = ({ groups }: LoraAttrs): number[] => groups.map((end, g) => end - (groups[g - 1] ?? 0));

/** B (N, r), group by group. */
const blocks = (graph: Graph, b: Value, attrs: LoraAttrs): readonly Value[] =>
  graph.once(`lora blocks of ${b.name}`, () => split(graph, b, 0, sizesOf(attrs)));

/** The columns of u or v that belong to each group, (T, r). */
const byGroup = (graph: Graph, x: Value, { rank, groups }: LoraAttrs): readonly Value[] =>
  graph.once(`lora groups of ${x.name}`, () =>
    split(
      graph,
      x,
      1,
      groups.map(() => rank),
    ),
  );

/** u = x·Aᵀ (T, G·r), which forward and gradients share. */
const inward = (x: TensorRef, a: Value, on: OnnxLowering): Value =>
  on.graph.once(`lora ${x.id}·${a.name}ᵀ`, () => gemm(on.graph, on.value(x), a, { transB: true }));

/** dy·B (T, G·r), which backward and gradients share. */
function outward(dy: TensorRef, b: Value, attrs: LoraAttrs, on: OnnxLowering): Value {
  const { graph } = on;
  return graph.once(`lora ${dy.id}·${b.name}`, () => {
    const parts = columnsOf(dy, sizesOf(attrs), on);
    const products = blocks(graph, b, attrs).map((block, g) => gemm(graph, parts[g]!, block));
    return concat(graph, products, 1);
  });
}

export function loraMergeOnnx(
  inputs: { weight: TensorRef; a: TensorRef; b: TensorRef },
  attrs: LoraAttrs,
  on: OnnxLowering,
): { merged: LoraMerged } {
  const { graph } = on;
  const [weight, a, b] = [on.value(inputs.weight), on.value(inputs.a), on.value(inputs.b)];
  const sizes = sizesOf(attrs);
  const alpha = attrs.scale;
  return {
    merged: {
      kind: 'lora-merged',
      whole: () => {
        const rows = split(
          graph,
          a,
          0,
          sizes.map(() => attrs.rank),
        );
        const products = blocks(graph, b, attrs).map((block, g) => gemm(graph, block, rows[g]!, { alpha }));
        return add(graph, weight, concat(graph, products, 0));
      },
      forward: (x, addend) => {
        const own = split(graph, gemm(graph, on.value(x), weight, { transB: true, add: addend }), 1, sizes);
        const u = byGroup(graph, inward(x, a, on), attrs);
        const sums = blocks(graph, b, attrs).map((block, g) =>
          gemm(graph, u[g]!, block, { transB: true, alpha, add: own[g] }),
        );
        return sums.length === 1 ? sums[0]! : columns(graph, sums, sizes);
      },
      backward: (dy, addend) => {
        const own = gemm(graph, on.value(dy), weight, { add: addend });
        return gemm(graph, outward(dy, b, attrs, on), a, { alpha, add: own });
      },
    },
  };
}

export function loraGradientsOnnx(
  inputs: LoraGradientInputs,
  attrs: LoraAttrs,
  on: OnnxLowering,
): { grad_a: Value; grad_b: Value } {
  const { graph } = on;
  const [x, a, b] = [on.value(inputs.x), on.value(inputs.a), on.value(inputs.b)];
  const [gradA, gradB] = [on.value(inputs.grad_a), on.value(inputs.grad_b)];
  const transposed = { transA: true, alpha: attrs.scale };
  const u = byGroup(graph, inward(inputs.x, a, on), attrs);
  const before = split(graph, gradB, 0, sizesOf(attrs));
  const after = columnsOf(inputs.dy, sizesOf(attrs), on).map((dy, g) =>
    gemm(graph, dy, u[g]!, { ...transposed, add: before[g] }),
  );
  const grads = {
    grad_a: gemm(graph, outward(inputs.dy, b, attrs, on), x, { ...transposed, add: gradA }),
    grad_b: concat(graph, after, 0),
  };
  on.settle(grads.grad_a, grads.grad_b);
  return grads;
}
