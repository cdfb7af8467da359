/** The optimizer: global gradient norm and AdamW over flat vectors. */
import { ceilDiv, kernel, spread } from '../kernel';
import { op, sizeOf, type AdapterProfile, type RunValues, type Size, type TensorRef } from '../op';
import { adamwOnnx, gradNormOnnx } from './adamw.onnx';
import adamwCode from './adamw.wgsl?raw';
import finish from './grad-norm-finish.wgsl?raw';
import partial from './grad-norm-partial.wgsl?raw';

const partialKernel = kernel({
  name: 'grad-norm-partial',
  code: partial,
  bindings: {
    grads: { elem: 'vec4<u32>', access: 'read' },
    partial: { elem: 'u32', access: 'read_write' },
  },
  params: { count: 'u32', threads: 'u32' },
});

const finishKernel = kernel({
  name: 'grad-norm-finish',
  code: finish,
  bindings: {
    partial: { elem: 'u32', access: 'read' },
    norm: { elem: 'u32', access: 'read_write' },
  },
  params: { threads: 'u32' },
});

const adamwKernel = kernel({
  name: 'adamw',
  code: adamwCode,
  bindings: {
    weights: { elem: 'vec4<f32>', access: 'read_write' },
    grads: { elem: 'vec4<f32>', access: 'read_write' },
    m: { elem: 'vec4<f32>', access: 'read_write' },
    v: { elem: 'vec4<f32>', access: 'read_write' },
    norm: { elem: 'u32', access: 'read' },
  },
  params: {
    quads: 'u32',
    decay: 'f32',
    one_minus_beta1: 'f32',
    beta2: 'f32',
    one_minus_beta2: 'f32',
    root_bias2: 'f32',
    step_size: 'f32',
    eps: 'f32',
    clip: 'f32',
  },
});

/** Room for the partial sums of the norm: the most threads the first stage uses. */
const MOST_PARTIALS = 16384;

/** Threads of the first stage: at least 16 quads each, as many as the adapter can use. */
function partialsOf(P: Size, v: RunValues, { kind }: AdapterProfile): number {
  const limit = kind === 'software' ? 256 : MOST_PARTIALS;
  return Math.min(limit, ceilDiv(sizeOf(P, v), 64));
}

/**
 * grads (P) → norm (1) = √Σ g², and the scratch it needs. The order of summation is fixed.
 * NaN when a gradient is NaN or infinite; NaN or infinite when the sum of squares overflows f32.
 */
export const gradNorm = op({
  name: 'grad-norm',
  outputs: (_inputs: { grads: TensorRef }, _attrs: Readonly<Record<string, never>>) => ({
    partial: { shape: [MOST_PARTIALS], dtype: 'f32' },
    norm: { shape: [1], dtype: 'f32' },
  }),
  webgpu: ({ inputs: { grads }, outputs: { partial, norm } }, profile) => {
    const P = grads.shape[0]!;
    return [
      {
        kernel: partialKernel,
        bind: { grads, partial },
        params: (v) => ({ count: sizeOf(P, v), threads: partialsOf(P, v, profile) }),
        grid: (v) => [ceilDiv(partialsOf(P, v, profile), 64), 1, 1],
      },
      {
        kernel: finishKernel,
        constants: { LANES: profile.kind === 'software' ? 4 : 256 },
        bind: { partial, norm },
        params: (v) => ({ threads: partialsOf(P, v, profile) }),
        grid: () => [1, 1, 1],
      },
    ];
  },
  onnx: ({ inputs: { grads } }, on) => gradNormOnnx(grads, on),
});

/** Run values that `adamw` reads; all in f64 until they reach the kernel. */
export interface AdamwValues {
  /** learning rate */
  readonly lr: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  readonly weight_decay: number;
  /** largest global gradient norm; 0 is off */
  readonly clip: number;
  /** 1 − β1ᵗ for the step number t = 1, 2, … */
  readonly bias1: number;
  /** 1 − β2ᵗ */
  readonly bias2: number;
}

function adamwParams(v: RunValues): Record<string, number> {
  const value = (name: keyof AdamwValues): number => sizeOf(name, v);
  // 1 − β in f64: near 1, an f32 β has lost most digits of the difference
  return {
    decay: 1 - value('lr') * value('weight_decay'),
    one_minus_beta1: 1 - value('beta1'),
    beta2: value('beta2'),
    one_minus_beta2: 1 - value('beta2'),
    root_bias2: Math.sqrt(value('bias2')),
    step_size: value('lr') / value('bias1'),
    eps: value('eps'),
    clip: value('clip'),
  };
}

/**
 * One optimizer step on params (P), m (P), v (P) from grads (P) and their norm (1), all in place; clears grads.
 * Reads the run values of `AdamwValues`. If `norm` is not finite nothing but grads changes: the caller reads `norm`
 * and reports it. Differs from torch only where g² underflows f32 (|g| < 1e-19) on adapters that flush denormals.
 */
export const adamw = op({
  name: 'adamw',
  outputs: (
    {
      params,
      grads,
      m,
      v,
    }: { params: TensorRef; grads: TensorRef; m: TensorRef; v: TensorRef; norm: TensorRef },
    _attrs: Readonly<Record<string, never>>,
  ) => ({
    params: { shape: params.shape, dtype: 'f32', inPlace: 'params' },
    grads: { shape: grads.shape, dtype: 'f32', inPlace: 'grads' },
    m: { shape: m.shape, dtype: 'f32', inPlace: 'm' },
    v: { shape: v.shape, dtype: 'f32', inPlace: 'v' },
  }),
  webgpu: ({ inputs: { norm }, outputs }) => {
    const P = outputs.params.shape[0]!;
    const { params: weights, grads, m, v } = outputs;
    return [
      {
        kernel: adamwKernel,
        bind: { weights, grads, m, v, norm },
        params: (run) => ({ quads: ceilDiv(sizeOf(P, run), 4), ...adamwParams(run) }),
        grid: (run) => spread(ceilDiv(ceilDiv(sizeOf(P, run), 4), 64)),
      },
    ];
  },
  onnx: ({ inputs }, on) => adamwOnnx(inputs, on),
});
