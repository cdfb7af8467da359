/**
 * Log-probabilities of each token's targets, from logits that come in chunks of the
 * vocabulary, so that (tokens × vocabulary) logits never exist whole. The running
 * log-sum-exp is the online softmax of Milakov & Gimelshein 2018 (arXiv 1805.02867).
 */
import { ceilDiv, kernel, spread, type KernelSpec } from '../kernel';
import { elements, fixed, op, sizeOf, type RunValues, type TensorRef } from '../op';
import backward from './logprob-backward.wgsl?raw';
import group from './logprob-group.wgsl?raw';
import { logprobBackwardOnnx, logprobOnnx } from './logprob.onnx';
import rows from './logprob-rows.wgsl?raw';

const spec = (name: string, code: string): KernelSpec =>
  kernel({
    name,
    code,
    bindings: {
      logits: { elem: 'u32', access: 'read' },
      targets: { elem: 'u32', access: 'read' },
      state: { elem: 'vec4<f32>', access: 'read_write' },
      picked: { elem: 'f32', access: 'read_write' },
      logprob: { elem: 'u32', access: 'read_write' },
      lse: { elem: 'u32', access: 'read_write' },
    },
    params: { rows: 'u32', width: 'u32', start: 'u32', K: 'u32', first: 'u32' },
  });

const rowsKernel = spec('logprob-rows', rows);
const groupKernel = spec('logprob-group', group);

const backwardKernel = kernel({
  name: 'logprob-backward',
  code: backward,
  bindings: {
    logits: { elem: 'f32', access: 'read_write' },
    targets: { elem: 'u32', access: 'read' },
    lse: { elem: 'u32', access: 'read' },
    d_logprob: { elem: 'f32', access: 'read' },
  },
  params: { rows: 'u32', width: 'u32', start: 'u32', K: 'u32' },
});

export interface ChunkAttrs {
  /** vocabulary id of the chunk's first column */
  readonly start: number;
}

/** Targets a token: the cells of `targets` over the rows. */
function targetsPerRow(targets: TensorRef, rows: number, v: RunValues): number {
  const K = elements(targets.shape, v) / rows;
  if (!Number.isInteger(K)) throw new Error(`${targets.name} has ${K} cells a row`);
  return K;
}

/**
 * Takes one chunk of the vocabulary into the running log-sum-exp.
 *
 * logits (T, VT), targets (C) u32 → logprob (C) and lse (T), where C = T·K: the K targets of a
 * token side by side, K known at run time. state (T, 4) and picked (C) are running values: leave
 * them out for the first chunk and pass them on to the next, in place; the `logprob` and `lse` of
 * the *last* chunk are the results (earlier ones cover only the chunks so far). A vocabulary of
 * one chunk is one launch. A row with a logit that is NaN or infinite has the results NaN.
 */
export const logprob = op({
  name: 'logprob',
  outputs: (
    {
      logits,
      targets,
      state,
      picked,
    }: {
      logits: TensorRef;
      targets: TensorRef;
      state?: TensorRef | undefined;
      picked?: TensorRef | undefined;
    },
    _attrs: ChunkAttrs,
  ) => {
    const T = logits.shape[0]!;
    fixed(logits.shape[1], 'width of logits');
    const cells = targets.shape;
    return {
      state: { shape: [T, 4], dtype: 'f32', ...(state && { inPlace: 'state' }) },
      picked: { shape: cells, dtype: 'f32', ...(picked && { inPlace: 'picked' }) },
      logprob: { shape: cells, dtype: 'f32' },
      lse: { shape: [T], dtype: 'f32' },
    };
  },
  webgpu: ({ inputs: { logits, targets, state: before }, outputs, attrs: { start } }, { kind }) => {
    const [T, width] = [logits.shape[0]!, fixed(logits.shape[1], 'width of logits')];
    const first = before ? 0 : 1;
    return [
      {
        kernel: kind === 'software' ? rowsKernel : groupKernel,
        bind: { logits, targets, ...outputs },
        params: (v) => {
          const rows = sizeOf(T, v);
          return { rows, width, start, K: targetsPerRow(targets, rows, v), first };
        },
        grid: (v) => spread(kind === 'software' ? ceilDiv(sizeOf(T, v), 16) : sizeOf(T, v)),
      },
    ];
  },
  onnx: ({ inputs, attrs: { start } }, on) => logprobOnnx(inputs, start, on),
});

/**
 * logits (T, VT) of one chunk (made again or kept), targets (C) u32, lse (T) of the whole
 * vocabulary, d_logprob (C) → d_logits (T, VT), overwriting logits. NaN in rows whose lse is.
 */
export const logprobBackward = op({
  name: 'logprob-backward',
  outputs: (
    { logits }: { logits: TensorRef; targets: TensorRef; lse: TensorRef; d_logprob: TensorRef },
    _attrs: ChunkAttrs,
  ) => ({ d_logits: { shape: logits.shape, dtype: 'f32', inPlace: 'logits' } }),
  webgpu: ({ inputs: { targets, lse, d_logprob }, outputs: { d_logits }, attrs: { start } }, { kind }) => {
    const [T, width] = [d_logits.shape[0]!, fixed(d_logits.shape[1], 'width of logits')];
    const RUN = kind === 'software' ? 32 : 1;
    return [
      {
        kernel: backwardKernel,
        constants: { RUN },
        bind: { logits: d_logits, targets, lse, d_logprob },
        params: (v) => {
          const rows = sizeOf(T, v);
          return { rows, width, start, K: targetsPerRow(targets, rows, v) };
        },
        grid: (v) => spread(ceilDiv(sizeOf(T, v) * ceilDiv(width, RUN), 64)),
      },
    ];
  },
  onnx: ({ inputs, attrs: { start } }, on) => logprobBackwardOnnx(inputs, start, on),
});
