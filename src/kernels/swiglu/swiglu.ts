/** The gated activation of Llama's MLP: silu(gate) ⊙ up (Shazeer 2020, arXiv 2002.05202). */
import { ceilDiv, kernel, spread } from '../kernel';
import { fixed, op, sizeOf, type TensorRef } from '../op';
import backward from './swiglu-backward.wgsl?raw';
import forward from './swiglu.wgsl?raw';

const swigluKernel = kernel({
  name: 'swiglu',
  code: forward,
  bindings: {
    gate_up: { elem: 'vec4<f32>', access: 'read' },
    act: { elem: 'vec4<f32>', access: 'read_write' },
  },
  params: { rows: 'u32', width: 'u32' },
});

const swigluBackwardKernel = kernel({
  name: 'swiglu-backward',
  code: backward,
  bindings: {
    gate_up: { elem: 'vec4<f32>', access: 'read_write' },
    d_act: { elem: 'vec4<f32>', access: 'read' },
  },
  params: { rows: 'u32', width: 'u32' },
});

function widthOf(gateUp: TensorRef): number {
  const both = fixed(gateUp.shape[1], 'width of gate_up');
  if (both % 8 !== 0) throw new Error(`swiglu: width ${both / 2} is not a multiple of 4`);
  return both / 2;
}

/** gate_up (rows, 2·width) → act (rows, width). Width a multiple of 4. */
export const swiglu = op({
  name: 'swiglu',
  outputs: ({ gate_up }: { gate_up: TensorRef }) => ({
    act: { shape: [gate_up.shape[0]!, widthOf(gate_up)], dtype: 'f32' },
  }),
  webgpu: ({ inputs: { gate_up }, outputs: { act } }) => {
    const width = widthOf(gate_up);
    const rows = gate_up.shape[0]!;
    return [
      {
        kernel: swigluKernel,
        bind: { gate_up, act },
        params: (v) => ({ rows: sizeOf(rows, v), width }),
        grid: (v) => spread(ceilDiv((sizeOf(rows, v) * width) / 4, 64)),
      },
    ];
  },
});

/** d_act (rows, width) → d_gate_up (rows, 2·width), overwriting gate_up. */
export const swigluBackward = op({
  name: 'swiglu-backward',
  outputs: ({ gate_up }: { gate_up: TensorRef; d_act: TensorRef }) => ({
    d_gate_up: { shape: gate_up.shape, dtype: 'f32', inPlace: 'gate_up' },
  }),
  webgpu: ({ inputs: { d_act }, outputs: { d_gate_up } }) => {
    const width = widthOf(d_gate_up);
    const rows = d_gate_up.shape[0]!;
    return [
      {
        kernel: swigluBackwardKernel,
        bind: { gate_up: d_gate_up, d_act },
        params: (v) => ({ rows: sizeOf(rows, v), width }),
        grid: (v) => spread(ceilDiv((sizeOf(rows, v) * width) / 4, 64)),
      },
    ];
  },
});
