/** The matrix product one writes first, as an op: a baseline, not used by the library. */
import { ceilDiv, kernel } from '../src/kernels/kernel';
import type { MatmulAttrs, MatmulInputs } from '../src/kernels/matmul/matmul';
import { matmulOnnx } from '../src/kernels/matmul/matmul.onnx';
import { fixed, op } from '../src/kernels/op';
import code from './naive-matmul.wgsl?raw';

const naiveKernel = kernel({
  name: 'naive-matmul',
  code,
  bindings: {
    a: { elem: 'f32', access: 'read' },
    b: { elem: 'f32', access: 'read' },
    y: { elem: 'f32', access: 'read_write' },
  },
  params: { rows: 'u32', cols: 'u32', depth: 'u32', b_col: 'u32', b_depth: 'u32' },
});

function sizes({ a, b }: MatmulInputs, { mode }: MatmulAttrs): [rows: number, cols: number, depth: number] {
  if (mode === 'TN') throw new Error('naive-matmul: NN and NT only');
  const at = mode === 'NT' ? 0 : 1;
  return [fixed(a.shape[0], 'rows'), fixed(b.shape[at], 'columns'), fixed(a.shape[1], 'depth')];
}

/** y = a·b, one thread per element, fixed sizes. */
export const naiveMatmul = op({
  name: 'naive-matmul',
  outputs: (inputs: MatmulInputs, attrs: MatmulAttrs) => {
    const [rows, cols] = sizes(inputs, attrs);
    return { y: { shape: [rows, cols], dtype: 'f32' } };
  },
  webgpu: ({ inputs, outputs: { y }, attrs }) => {
    const [rows, cols, depth] = sizes(inputs, attrs);
    const transposed = attrs.mode === 'NT';
    const [b_col, b_depth] = transposed ? [depth, 1] : [1, cols];
    return [
      {
        kernel: naiveKernel,
        bind: { a: inputs.a, b: inputs.b, y },
        params: () => ({ rows, cols, depth, b_col, b_depth }),
        grid: () => [ceilDiv(cols, 8), ceilDiv(rows, 8), 1],
      },
    ];
  },
  onnx: ({ inputs, attrs }, on) => matmulOnnx(inputs, attrs, on),
});
