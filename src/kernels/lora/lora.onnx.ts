/**
 * Adapters in a graph. The merged weight is left in parts, so that it never takes memory: whoever multiplies by it
 * adds scale·(x·Aᵀ)·Bᵀ to x·Wᵀ. Row groups are handled at once: u = x·Aᵀ has the columns of all of them, and B is
 * spread to a matrix whose row n is zero outside the columns of its group. That is a few more products, but of the
 * small matrices, and spares taking the wide ones apart.
 */
import type { Graph, Value } from '../../onnx/graph';
import { add, concat, gemm, reshape, split } from '../operators';
import type { Deferred, OnnxLowering, TensorRef } from '../op';
import type { LoraAttrs, LoraGradientInputs } from './lora';

/** weight + scale·B·A, not yet computed. */
export interface LoraMerged extends Deferred {
  readonly kind: 'lora-merged';
  /** x (T, K) → x·(weight + scale·B·A)ᵀ (+ addend), (T, N) */
  forward(x: Value, addend: Value | undefined): Value;
  /** dy (T, N) → dy·(weight + scale·B·A) (+ addend), (T, K) */
  backward(dy: Value, addend: Value | undefined): Value;
}

/** B (N, r) as (N, G·r): the row groups' blocks, one below the other and each further to the right. */
function blocks(graph: Graph, b: Value, { rank, groups }: LoraAttrs): Value {
  if (groups.length === 1) return b;
  return graph.once(`lora blocks ${b.name}`, () => {
    const sizes = groups.map((end, g) => end - (groups[g - 1] ?? 0));
    const rows = split(graph, b, 0, sizes).map((part, g) =>
      graph.node('Pad', [part, graph.i64([0, g * rank, 0, (groups.length - 1 - g) * rank])]),
    );
    return concat(graph, rows, 0);
  });
}

/** u = x·Aᵀ (T, G·r), which forward and gradients share. */
const inward = (graph: Graph, x: Value, a: Value): Value =>
  graph.once(`lora ${x.name}·${a.name}ᵀ`, () => gemm(graph, x, a, { transB: true }));

/** dy·B (T, G·r), which backward and gradients share. */
const outward = (graph: Graph, dy: Value, b: Value, attrs: LoraAttrs): Value =>
  graph.once(`lora ${dy.name}·${b.name}`, () => gemm(graph, dy, blocks(graph, b, attrs)));

export function loraMergeOnnx(
  inputs: { weight: TensorRef; a: TensorRef; b: TensorRef },
  attrs: LoraAttrs,
  on: OnnxLowering,
): { merged: LoraMerged } {
  const { graph } = on;
  const [weight, a, b] = [on.value(inputs.weight), on.value(inputs.a), on.value(inputs.b)];
  const alpha = attrs.scale;
  return {
    merged: {
      kind: 'lora-merged',
      whole: () => gemm(graph, blocks(graph, b, attrs), a, { alpha, add: weight }),
      forward: (x, addend) => {
        const own = gemm(graph, x, weight, { transB: true, add: addend });
        return gemm(graph, inward(graph, x, a), blocks(graph, b, attrs), { transB: true, alpha, add: own });
      },
      backward: (dy, addend) => {
        const own = gemm(graph, dy, weight, { add: addend });
        return gemm(graph, outward(graph, dy, b, attrs), a, { alpha, add: own });
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
  const [x, dy, a, b] = [on.value(inputs.x), on.value(inputs.dy), on.value(inputs.a), on.value(inputs.b)];
  const [gradA, gradB] = [on.value(inputs.grad_a), on.value(inputs.grad_b)];
  const { groups, rank, scale: alpha } = attrs;
  const transposed = { transA: true, alpha };
  const grad_a = gemm(graph, outward(graph, dy, b, attrs), x, { ...transposed, add: gradA });
  const u = inward(graph, x, a);
  if (groups.length === 1) return { grad_a, grad_b: gemm(graph, dy, u, { ...transposed, add: gradB }) };
  // (N, G·r): row n by the columns of every group; its own are kept
  const every = reshape(graph, gemm(graph, dy, u, transposed), [-1, rank]);
  const own = graph.once(`lora own ${groups.join()}`, () => {
    const rows = groups.flatMap((end, g) => {
      const start = groups[g - 1] ?? 0;
      return Array.from({ length: end - start }, (_, n) => (start + n) * groups.length + g);
    });
    return graph.i32(rows);
  });
  return { grad_a, grad_b: add(graph, gradB, graph.node('Gather', [every, own], { axis: 0 })) };
}
