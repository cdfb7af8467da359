/**
 * Causal attention within packed segments, grouped-query, without a score matrix in
 * memory (Dao et al. 2022, arXiv 2205.14135): forward keeps the log-sum-exp of each
 * query, backward recomputes the probabilities from it.
 */
import { op, sizeOf, type RunValues, type TensorRef } from '../op';
import { attentionBackwardOnnx, attentionOnnx } from './attention.onnx';
import { checkHeads, scaleOf, type AttentionAttrs } from './heads';
import { variantFor } from './variants';

export type { AttentionAttrs, HeadAttrs } from './heads';

const paramsOf = (qkv: TensorRef, attrs: AttentionAttrs) => (v: RunValues) => ({
  rows: sizeOf(qkv.shape[0]!, v),
  heads: attrs.heads,
  kv_heads: attrs.kvHeads,
  scale: scaleOf(attrs),
});

/**
 * qkv (T, (H + 2·KV)·headDim) after RoPE, segments (T, 2) u32
 * → out (T, H·headDim), lse (T, H) natural log-sum-exp of the scaled scores.
 */
export const attention = op({
  name: 'attention',
  outputs: ({ qkv }: { qkv: TensorRef; segments: TensorRef }, attrs: AttentionAttrs) => {
    checkHeads(qkv, attrs);
    const rows = qkv.shape[0]!;
    return {
      out: { shape: [rows, attrs.heads * attrs.headDim], dtype: 'f32' },
      lse: { shape: [rows, attrs.heads], dtype: 'f32' },
    };
  },
  webgpu: ({ inputs, outputs, attrs }, profile) => {
    const { forward, constants, grid } = variantFor(attrs.headDim, profile);
    const rows = inputs.qkv.shape[0]!;
    return [
      {
        kernel: forward,
        constants,
        bind: { ...inputs, ...outputs },
        params: paramsOf(inputs.qkv, attrs),
        grid: (v) => grid(sizeOf(rows, v), attrs.heads),
      },
    ];
  },
  onnx: ({ inputs, attrs }, on) => attentionOnnx(inputs, attrs, on),
});

/**
 * The gradient of `attention`: d_out (T, H·headDim) → d_qkv (T, (H + 2·KV)·headDim),
 * every element written. delta (T, H) is scratch. No atomics: equal inputs give equal bits.
 */
export const attentionBackward = op({
  name: 'attention-backward',
  outputs: (
    { qkv }: { qkv: TensorRef; segments: TensorRef; out: TensorRef; lse: TensorRef; d_out: TensorRef },
    attrs: AttentionAttrs,
  ) => {
    checkHeads(qkv, attrs);
    return {
      d_qkv: { shape: qkv.shape, dtype: 'f32' },
      delta: { shape: [qkv.shape[0]!, attrs.heads], dtype: 'f32' },
    };
  },
  webgpu: ({ inputs, outputs, attrs }, profile) => {
    const { dq, dkv, constants, grid } = variantFor(attrs.headDim, profile);
    const rows = inputs.qkv.shape[0]!;
    const shared = { constants, bind: { ...inputs, ...outputs }, params: paramsOf(inputs.qkv, attrs) };
    return [
      { ...shared, kernel: dq, grid: (v) => grid(sizeOf(rows, v), attrs.heads) },
      { ...shared, kernel: dkv, grid: (v) => grid(sizeOf(rows, v), attrs.kvHeads) },
    ];
  },
  onnx: ({ inputs, attrs }, on) => attentionBackwardOnnx(inputs, attrs, on),
});
