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
  const merged = mode === 'TN' ? undefined : on.parts<LoraMerged>(inputs.b, 'lora-merged');
  if (merged) {
    return {
      y: mode === 'NT' ? merged.forward(inputs.a, addend) : merged.backward(inputs.a, addend),
    };
  }
  const transposed = { transA: mode === 'TN', transB: mode === 'NT' };
  return { y: gemm(graph, on.value(inputs.a), on.value(inputs.b), { ...transposed, add: addend }) };
}
