import type { Columns } from '../columns';
import type { Value } from '../../onnx/graph';
import type { LoraMerged } from '../lora/lora.onnx';
import { add, gemm } from '../operators';
import type { OnnxLowering } from '../op';
import type { MatmulAttrs, MatmulInputs } from './matmul';

export function matmulOnnx(
  inputs: MatmulInputs,
  { mode }: MatmulAttrs,
  on: OnnxLowering,
): { y: Value | Columns } {
  const { graph } = on;
  const bias = inputs.bias && on.value(inputs.bias);
  const sum = inputs.add && on.value(inputs.add);
  const addend = sum && bias ? add(graph, sum, bias) : (sum ?? bias);
  /** sums over many products are made one by one */
  const settled = (y: Value): Value => {
    if (sum) on.settle(y);
    return y;
  };
  const merged = mode === 'TN' ? undefined : on.parts<LoraMerged>(inputs.b, 'lora-merged');
  const transposed = { transA: mode === 'TN', transB: mode === 'NT' };
  const product = (): Value =>
    gemm(graph, on.value(inputs.a), on.value(inputs.b), { ...transposed, add: addend });
  if (!merged) return { y: settled(product()) };
  return { y: mode === 'NT' ? merged.forward(inputs.a, addend) : settled(merged.backward(inputs.a, addend)) };
}
