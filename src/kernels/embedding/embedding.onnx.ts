import type { Value } from '../../onnx/graph';
import type { OnnxLowering, TensorRef } from '../op';

export function embeddingOnnx(
  { tokens, weight }: { tokens: TensorRef; weight: TensorRef },
  on: OnnxLowering,
): { h: Value } {
  return { h: on.graph.node('Gather', [on.value(weight), on.value(tokens)], { axis: 0 }) };
}
