/** Token embedding: a gather of rows. Base weights are frozen, so there is no backward. */
import { ceilDiv, kernel, spread, type Elem } from '../kernel';
import { fixed, op, sizeOf, type TensorRef } from '../op';
import { embeddingOnnx } from './embedding.onnx';
import code from './embedding.wgsl?raw';

const embeddingKernel = (elem: Elem) =>
  kernel({
    name: 'embedding',
    code,
    bindings: {
      tokens: { elem: 'u32', access: 'read' },
      weight: { elem, access: 'read' },
      h: { elem, access: 'read_write' },
    },
    params: { rows: 'u32', width: 'u32' },
  });

const byQuad = embeddingKernel('vec4<f32>');
const byScalar = embeddingKernel('f32');

/** tokens (T) u32, weight (V, D) → h (T, D). Tokens must be below V. */
export const embedding = op({
  name: 'embedding',
  outputs: ({ tokens, weight }: { tokens: TensorRef; weight: TensorRef }) => ({
    h: { shape: [tokens.shape[0]!, fixed(weight.shape[1], 'width of the embedding')], dtype: 'f32' },
  }),
  webgpu: ({ inputs: { tokens, weight }, outputs: { h } }) => {
    const rows = tokens.shape[0]!;
    const d = fixed(weight.shape[1], 'width of the embedding');
    const width = d % 4 === 0 ? d / 4 : d;
    return [
      {
        kernel: d % 4 === 0 ? byQuad : byScalar,
        bind: { tokens, weight, h },
        params: (v) => ({ rows: sizeOf(rows, v), width }),
        grid: (v) => spread(ceilDiv(sizeOf(rows, v) * width, 64)),
      },
    ];
  },
  onnx: ({ inputs }, on) => embeddingOnnx(inputs, on),
});
