/** Decoding: keeping keys and values, and attention of one new token per sequence against them. */
import { ceilDiv, kernel, spread, type Elem } from '../kernel';
import { op, sizeOf, type TensorRef } from '../op';
import code from './attention-cached.wgsl?raw';
import { attentionCachedOnnx, kvAppendOnnx } from './attention-cached.onnx';
import { checkHeads, scaleOf, type AttentionAttrs, type HeadAttrs } from './heads';
import appendCode from './kv-append.wgsl?raw';

const cachedKernel = (elem: Elem) =>
  kernel({
    name: 'attention-cached',
    code,
    bindings: {
      qkv: { elem, access: 'read' },
      cache_k: { elem, access: 'read' },
      cache_v: { elem, access: 'read' },
      slots: { elem: 'vec4<u32>', access: 'read' },
      out: { elem: 'f32', access: 'read_write' },
    },
    params: { rows: 'u32', heads: 'u32', kv_heads: 'u32', scale: 'f32' },
  });

const cachedKernels = { quad: cachedKernel('vec4<f32>'), scalar: cachedKernel('f32') };

/**
 * qkv (B, (H + 2·KV)·headDim) after RoPE, cache_k and cache_v (R, KV·headDim),
 * slots (B, 4) u32 = [prefix_start, prefix_len, own_start, own_len] → out (B, H·headDim).
 * Query b sees cache rows [prefix_start, +prefix_len) and [own_start, +own_len); its own key and
 * value are already there. own_len = 0 marks a finished sequence, whose row of out is zero.
 */
export const attentionCached = op({
  name: 'attention-cached',
  outputs: (
    { qkv }: { qkv: TensorRef; cache_k: TensorRef; cache_v: TensorRef; slots: TensorRef },
    attrs: AttentionAttrs,
  ) => {
    checkHeads(qkv, attrs);
    return { out: { shape: [qkv.shape[0]!, attrs.heads * attrs.headDim], dtype: 'f32' } };
  },
  webgpu: ({ inputs, outputs, attrs }, profile) => {
    const { heads, kvHeads, headDim } = attrs;
    const rows = inputs.qkv.shape[0]!;
    const width = headDim % 4 === 0 ? 4 : 1;
    return [
      {
        kernel: width === 4 ? cachedKernels.quad : cachedKernels.scalar,
        constants: {
          LANES: profile.kind === 'gpu' ? 64 : 4,
          PARTS: headDim / width,
          WIDTH: width,
          SHARE: { f32: width === 4 ? 1 : 0.25 },
        },
        bind: { ...inputs, ...outputs },
        params: (v) => ({ rows: sizeOf(rows, v), heads, kv_heads: kvHeads, scale: scaleOf(attrs) }),
        grid: (v) => spread(sizeOf(rows, v) * heads),
      },
    ];
  },
  onnx: ({ inputs, attrs }, on) => attentionCachedOnnx(inputs, attrs, on),
});

/** In `rows` of `kvAppend`: this token is not kept. */
export const NO_ROW = 0xffffffff;

const appendKernel = (elem: Elem) =>
  kernel({
    name: 'kv-append',
    code: appendCode,
    bindings: {
      qkv: { elem, access: 'read' },
      rows: { elem: 'u32', access: 'read' },
      cache_k: { elem, access: 'read_write' },
      cache_v: { elem, access: 'read_write' },
    },
    params: { rows: 'u32', width: 'u32', first: 'u32', stride: 'u32' },
  });

const appendKernels = { quad: appendKernel('vec4<f32>'), scalar: appendKernel('f32') };

/**
 * qkv (B, (H + 2·KV)·headDim) after RoPE, rows (B) u32: copies the k and v of row b to row rows[b] of
 * cache_k and cache_v (R, KV·headDim), in place. rows[b] = NO_ROW skips; rows must otherwise be distinct.
 */
export const kvAppend = op({
  name: 'kv-append',
  outputs: (
    { qkv, cache_k, cache_v }: { qkv: TensorRef; rows: TensorRef; cache_k: TensorRef; cache_v: TensorRef },
    attrs: HeadAttrs,
  ) => {
    checkHeads(qkv, attrs);
    return {
      cache_k: { shape: cache_k.shape, dtype: 'f32', inPlace: 'cache_k' },
      cache_v: { shape: cache_v.shape, dtype: 'f32', inPlace: 'cache_v' },
    };
  },
  webgpu: ({ inputs: { qkv, rows }, outputs: { cache_k, cache_v }, attrs: { heads, kvHeads, headDim } }) => {
    const count = qkv.shape[0]!;
    const lanes = headDim % 4 === 0 ? 4 : 1;
    const width = (kvHeads * headDim) / lanes;
    return [
      {
        kernel: lanes === 4 ? appendKernels.quad : appendKernels.scalar,
        bind: { qkv, rows, cache_k, cache_v },
        params: (v) => ({
          rows: sizeOf(count, v),
          width,
          first: (heads * headDim) / lanes,
          stride: ((heads + 2 * kvHeads) * headDim) / lanes,
        }),
        grid: (v) => spread(ceilDiv(sizeOf(count, v) * width, 64)),
      },
    ];
  },
  onnx: ({ inputs, attrs }, on) => kvAppendOnnx(inputs, attrs, on),
});
