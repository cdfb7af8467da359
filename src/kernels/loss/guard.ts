/**
 * Keeps a loss that is not finite out of the accumulated gradient.
 *
 * Whether it is comes out when the backward pass is queued already, and maybe the
 * optimizer step behind it; so the GPU itself takes back what such a request added.
 */
import { ceilDiv, kernel, spread } from '../kernel';
import { elements, op, sizeOf, type TensorRef } from '../op';
import { gradientGuardOnnx, lossFaultOnnx } from './guard.onnx';
import guard from './gradient-guard.wgsl?raw';
import find from './loss-fault.wgsl?raw';

const faultKernel = kernel({
  name: 'loss-fault',
  code: find,
  bindings: { loss: { elem: 'u32', access: 'read' }, fault: { elem: 'atomic<u32>', access: 'read_write' } },
  params: { count: 'u32' },
});

const guardKernel = kernel({
  name: 'gradient-guard',
  code: guard,
  bindings: {
    fault: { elem: 'u32', access: 'read' },
    saved: { elem: 'u32', access: 'read' },
    grads: { elem: 'u32', access: 'read_write' },
  },
  params: { count: 'u32', has_saved: 'u32' },
});

/** loss (C), fault (1) u32 → fault in place: 1 if a term is NaN or infinite, else as before. */
export const lossFault = op({
  name: 'loss-fault',
  outputs: ({ fault }: { loss: TensorRef; fault: TensorRef }, _attrs: Readonly<Record<string, never>>) => ({
    fault: { shape: fault.shape, dtype: 'u32', inPlace: 'fault' },
  }),
  webgpu: ({ inputs: { loss }, outputs: { fault } }) => [
    {
      kernel: faultKernel,
      bind: { loss, fault },
      params: (v) => ({ count: elements(loss.shape, v) }),
      grid: (v) => spread(ceilDiv(elements(loss.shape, v), 64)),
    },
  ],
  onnx: ({ inputs }, on) => lossFaultOnnx(inputs, on),
});

/** Run values that `gradientGuard` reads. */
export interface GuardValues {
  /** 1: `saved` holds the gradients before the request; 0: there were none */
  readonly has_saved: number;
  /** 1 in the last batch of a request; in the others nothing happens */
  readonly last: number;
}

/** Workgroups that walk the gradients: enough to fill a GPU, few to launch for nothing. */
const WORKGROUPS = 64;

/** grads (P), saved (P), fault (1) u32 → grads in place: where fault is set, saved or zero. Run values: `GuardValues`. */
export const gradientGuard = op({
  name: 'gradient-guard',
  outputs: (
    { grads }: { grads: TensorRef; saved: TensorRef; fault: TensorRef },
    _attrs: Readonly<Record<string, never>>,
  ) => ({ grads: { shape: grads.shape, dtype: 'f32', inPlace: 'grads' } }),
  webgpu: ({ inputs: { saved, fault }, outputs: { grads } }) => [
    {
      kernel: guardKernel,
      bind: { fault, saved, grads },
      params: (v) => ({ count: elements(grads.shape, v), has_saved: sizeOf('has_saved', v) }),
      grid: (v) => [sizeOf('last', v) * WORKGROUPS, 1, 1],
    },
  ],
  onnx: ({ inputs }, on) => gradientGuardOnnx(inputs, on),
});
