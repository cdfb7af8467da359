/** Attention for head dimensions that are no multiple of four: plain loops over f32. */
import { ceilDiv, kernel, spread } from '../kernel';
import { sizeOf, type Dispatch, type RunValues, type TensorRef } from '../op';
import dkvCode from './attention-scalar-dkv.wgsl?raw';
import dqCode from './attention-scalar-dq.wgsl?raw';
import forwardCode from './attention-scalar.wgsl?raw';
import { scaleOf, type AttentionAttrs } from './heads';

const params = { rows: 'u32', heads: 'u32', kv_heads: 'u32', scale: 'f32' } as const;

const forwardKernel = kernel({
  name: 'attention-scalar',
  code: forwardCode,
  bindings: {
    qkv: { elem: 'f32', access: 'read' },
    segments: { elem: 'u32', access: 'read' },
    out: { elem: 'f32', access: 'read_write' },
    lse: { elem: 'f32', access: 'read_write' },
  },
  params,
});

const dqKernel = kernel({
  name: 'attention-scalar-dq',
  code: dqCode,
  bindings: {
    qkv: { elem: 'f32', access: 'read' },
    segments: { elem: 'u32', access: 'read' },
    out: { elem: 'f32', access: 'read' },
    lse: { elem: 'f32', access: 'read' },
    d_out: { elem: 'f32', access: 'read' },
    d_qkv: { elem: 'f32', access: 'read_write' },
    delta: { elem: 'f32', access: 'read_write' },
  },
  params,
});

const dkvKernel = kernel({
  name: 'attention-scalar-dkv',
  code: dkvCode,
  bindings: {
    qkv: { elem: 'f32', access: 'read' },
    segments: { elem: 'u32', access: 'read' },
    lse: { elem: 'f32', access: 'read' },
    d_out: { elem: 'f32', access: 'read' },
    delta: { elem: 'f32', access: 'read' },
    d_qkv: { elem: 'f32', access: 'read_write' },
  },
  params,
});

export interface ForwardTensors {
  readonly qkv: TensorRef;
  readonly segments: TensorRef;
  readonly out: TensorRef;
  readonly lse: TensorRef;
}

export interface BackwardTensors extends ForwardTensors {
  readonly d_out: TensorRef;
  readonly d_qkv: TensorRef;
  readonly delta: TensorRef;
}

function shared(qkv: TensorRef, attrs: AttentionAttrs) {
  const rows = qkv.shape[0]!;
  return {
    constants: { HEAD_DIM: attrs.headDim },
    params: (v: RunValues) => ({
      rows: sizeOf(rows, v),
      heads: attrs.heads,
      kv_heads: attrs.kvHeads,
      scale: scaleOf(attrs),
    }),
    gridOver: (heads: number) => (v: RunValues) => spread(ceilDiv(sizeOf(rows, v) * heads, 64)),
  };
}

export function scalarForward(bind: ForwardTensors, attrs: AttentionAttrs): Dispatch[] {
  const { constants, params, gridOver } = shared(bind.qkv, attrs);
  return [{ kernel: forwardKernel, constants, bind: { ...bind }, params, grid: gridOver(attrs.heads) }];
}

export function scalarBackward(bind: BackwardTensors, attrs: AttentionAttrs): Dispatch[] {
  const { constants, params, gridOver } = shared(bind.qkv, attrs);
  return [
    { kernel: dqKernel, constants, bind: { ...bind }, params, grid: gridOver(attrs.heads) },
    { kernel: dkvKernel, constants, bind: { ...bind }, params, grid: gridOver(attrs.kvHeads) },
  ];
}
