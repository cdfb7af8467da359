/** The gated activation of Llama's MLP: silu(gate) ⊙ up (Shazeer 2020, arXiv 2002.05202). */
import { ceilDiv, kernel, spread, type Elem } from '../kernel';
import { fixed, op, sizeOf, type TensorRef } from '../op';
import backward from './swiglu-backward.wgsl?raw';
import { swigluBackwardOnnx, swigluOnnx } from './swiglu.onnx';
import forward from './swiglu.wgsl?raw';

const forwardKernel = (elem: Elem) =>
  kernel({
    name: 'swiglu',
    code: forward,
    bindings: {
      gate_up: { elem, access: 'read' },
      act: { elem, access: 'read_write' },
    },
    params: { rows: 'u32', width: 'u32' },
  });

const backwardKernel = (elem: Elem) =>
  kernel({
    name: 'swiglu-backward',
    code: backward,
    bindings: {
      gate_up: { elem, access: 'read_write' },
      d_act: { elem, access: 'read_write' },
    },
    params: { rows: 'u32', width: 'u32' },
  });

const kernels = {
  quad: { forward: forwardKernel('vec4<f32>'), backward: backwardKernel('vec4<f32>') },
  scalar: { forward: forwardKernel('f32'), backward: backwardKernel('f32') },
};

function widthOf(gateUp: TensorRef): number {
  const both = fixed(gateUp.shape[1], 'width of gate_up');
  if (both % 2 !== 0) throw new Error(`swiglu: gate_up has ${both} columns, which is no [gate | up]`);
  return both / 2;
}

/** The kernels for a width, and that width in their elements. */
function variant(width: number) {
  return width % 4 === 0 ? { ...kernels.quad, width: width / 4 } : { ...kernels.scalar, width };
}

/** gate_up (rows, 2·width) → act (rows, width). Any width. */
export const swiglu = op({
  name: 'swiglu',
  outputs: ({ gate_up }: { gate_up: TensorRef }) => ({
    act: { shape: [gate_up.shape[0]!, widthOf(gate_up)], dtype: 'f32' },
  }),
  webgpu: ({ inputs: { gate_up }, outputs: { act } }) => {
    const { forward, width } = variant(widthOf(gate_up));
    const rows = gate_up.shape[0]!;
    return [
      {
        kernel: forward,
        bind: { gate_up, act },
        params: (v) => ({ rows: sizeOf(rows, v), width }),
        grid: (v) => spread(ceilDiv(sizeOf(rows, v) * width, 64)),
      },
    ];
  },
  onnx: ({ inputs: { gate_up } }, on) => swigluOnnx(gate_up, widthOf(gate_up), on),
});

/**
 * d_act (rows, width) → d_gate_up (rows, 2·width), overwriting gate_up, and act
 * (rows, width) of the forward pass again, overwriting d_act: the backward of the
 * linear above needs it, and making it anew costs less than keeping it.
 */
export const swigluBackward = op({
  name: 'swiglu-backward',
  outputs: ({ gate_up, d_act }: { gate_up: TensorRef; d_act: TensorRef }) => ({
    d_gate_up: { shape: gate_up.shape, dtype: 'f32', inPlace: 'gate_up' },
    act: { shape: d_act.shape, dtype: 'f32', inPlace: 'd_act' },
  }),
  webgpu: ({ outputs: { d_gate_up, act } }) => {
    const { backward, width } = variant(widthOf(d_gate_up));
    const rows = d_gate_up.shape[0]!;
    return [
      {
        kernel: backward,
        bind: { gate_up: d_gate_up, d_act: act },
        params: (v) => ({ rows: sizeOf(rows, v), width }),
        grid: (v) => spread(ceilDiv(sizeOf(rows, v) * width, 64)),
      },
    ];
  },
  onnx: ({ inputs }, on) => swigluBackwardOnnx(inputs, widthOf(inputs.gate_up), on),
});
