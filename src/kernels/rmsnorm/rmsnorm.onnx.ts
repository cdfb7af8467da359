import type { Value } from '../../onnx/graph';
import { add, div, flatten, mul, reduce, reshape, sub } from '../operators';
import { fixed, type OnnxLowering, type TensorRef } from '../op';

export function rmsnormOnnx(
  inputs: { x: TensorRef; weight: TensorRef },
  eps: number,
  on: OnnxLowering,
): { y: Value; rstd: Value } {
  const { graph } = on;
  const x = on.value(inputs.x);
  const mean = reduce(graph, 'ReduceMean', mul(graph, x, x), 1);
  const root = graph.node('Sqrt', [add(graph, mean, graph.f32(eps))]);
  const rstd = div(graph, graph.f32(1), root);
  return { y: mul(graph, mul(graph, x, rstd), on.value(inputs.weight)), rstd: flatten(graph, rstd) };
}

export function rmsnormBackwardOnnx(
  inputs: {
    x: TensorRef;
    weight: TensorRef;
    rstd: TensorRef;
    dy: TensorRef;
    d_residual?: TensorRef | undefined;
  },
  on: OnnxLowering,
): { dx: Value } {
  const { graph } = on;
  const [x, weight, dy] = [on.value(inputs.x), on.value(inputs.weight), on.value(inputs.dy)];
  const width = fixed(inputs.x.shape[1], 'width of the normalised rows');
  const rstd = reshape(graph, on.value(inputs.rstd), [0, 1]);
  const g = mul(graph, dy, weight);
  // (T, 1): rstd³ · mean(g ⊙ x)
  const total = reduce(graph, 'ReduceSum', mul(graph, g, x), 1);
  const cubed = mul(graph, mul(graph, rstd, rstd), rstd);
  const pull = mul(graph, total, mul(graph, cubed, graph.f32(1 / width)));
  const dx = sub(graph, mul(graph, g, rstd), mul(graph, x, pull));
  return { dx: inputs.d_residual ? add(graph, on.value(inputs.d_residual), dx) : dx };
}
