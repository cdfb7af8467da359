/** Rotary position embedding (Su et al. 2021, arXiv 2104.09864), in the half-rotation layout of transformers' Llama. */
import { ceilDiv, kernel, spread, type Elem } from '../kernel';
import { fixed, op, sizeOf, type TensorRef } from '../op';
import { ropeOnnx } from './rope.onnx';
import code from './rope.wgsl?raw';

const ropeKernel = (elem: Elem) =>
  kernel({
    name: 'rope',
    code,
    bindings: {
      qkv: { elem, access: 'read_write' },
      positions: { elem: 'u32', access: 'read' },
      table: { elem, access: 'read' },
    },
    params: { rows: 'u32', heads: 'u32', half: 'u32', stride: 'u32', direction: 'f32' },
  });

const byQuad = ropeKernel('vec4<f32>');
const byScalar = ropeKernel('f32');

export interface RopeAttrs {
  /** how many leading heads of the stacked qkv turn: query heads + key heads */
  readonly heads: number;
  /** features of a head; even */
  readonly headDim: number;
  /** turn back: the backward pass */
  readonly inverse: boolean;
}

/**
 * Turns the leading heads of qkv (T, (H + 2·KV)·headDim) in place, by positions (T) u32
 * and the table (P, headDim) of `ropeTable`. Positions must be below P.
 */
export const rope = op({
  name: 'rope',
  outputs: (
    { qkv }: { qkv: TensorRef; positions: TensorRef; table: TensorRef },
    { heads, headDim }: RopeAttrs,
  ) => {
    const width = fixed(qkv.shape[1], 'width of qkv');
    if (headDim % 2 !== 0) throw new Error(`rope: head dimension ${headDim} is odd`);
    if (heads * headDim > width)
      throw new Error(`rope: ${heads} heads of ${headDim} exceed the width ${width}`);
    return { qkv: { shape: qkv.shape, dtype: 'f32', inPlace: 'qkv' } };
  },
  webgpu: ({ inputs: { positions, table }, outputs: { qkv }, attrs: { heads, headDim, inverse } }) => {
    const rows = qkv.shape[0]!;
    const width = fixed(qkv.shape[1], 'width of qkv');
    const lanes = headDim % 8 === 0 && width % 4 === 0 ? 4 : 1;
    const half = headDim / 2 / lanes;
    return [
      {
        kernel: lanes === 4 ? byQuad : byScalar,
        bind: { qkv, positions, table },
        params: (v) => ({
          rows: sizeOf(rows, v),
          heads,
          half,
          stride: width / lanes,
          direction: inverse ? -1 : 1,
        }),
        grid: (v) => spread(ceilDiv(sizeOf(rows, v) * heads * half, 64)),
      },
    ];
  },
  onnx: ({ inputs, attrs }, on) => ropeOnnx(inputs, fixed(inputs.qkv.shape[1], 'width of qkv'), attrs, on),
});
export { ropeTable, type RopeConfig } from './rope-table';
