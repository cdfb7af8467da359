import type { Value } from '../../onnx/graph';
import type { LoraMerged } from '../lora/lora.onnx';
import { add, gemm } from '../operators';
import type { OnnxLowering } from '../op';
import type { MatmulAttrs, MatmulInputs } from './matmul';

export function matmulOnnx(inputs: MatmulInputs, { mode }: MatmulAttrs, on: OnnxLowering): { y: Value } {
  const { graph } = on;
  const a = on.value(inputs.a);
  const bias = inputs.bias && on.value(inputs.bias);
  const addend = inputs.add ? on.value(inputs.add) : bias;
  const merged = mode === 'TN' ? undefined : on.parts<LoraMerged>(inputs.b, 'lora-merged');
  let y: Value;
  if (merged) y = mode === 'NT' ? merged.forward(a, addend) : merged.backward(a, addend);
  else
    y = gemm(graph, a, on.value(inputs.b), {
      transA: mode === 'TN',
      transB: mode === 'NT',
      add: addend,
    });
  return { y: inputs.add && bias ? add(graph, y, bias) : y };
}
