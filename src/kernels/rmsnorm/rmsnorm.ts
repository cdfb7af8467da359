/** Root-mean-square normalisation (Zhang & Sennrich 2019, arXiv 1910.07467). Weights are frozen. */
import { ceilDiv, kernel, spread, type Elem } from '../kernel';
import { fixed, op, sizeOf, type AdapterProfile, type Dispatch, type TensorRef } from '../op';
import backward from './rmsnorm-backward.wgsl?raw';
import { rmsnormBackwardOnnx, rmsnormOnnx } from './rmsnorm.onnx';
import forward from './rmsnorm.wgsl?raw';

const forwardKernel = (elem: Elem) =>
  kernel({
    name: 'rmsnorm',
    code: forward,
    bindings: {
      x: { elem, access: 'read' },
      weight: { elem, access: 'read' },
      y: { elem, access: 'read_write' },
      rstd: { elem: 'f32', access: 'read_write' },
    },
    params: { rows: 'u32', width: 'u32', features: 'f32', eps: 'f32' },
  });

const backwardKernel = (elem: Elem) =>
  kernel({
    name: 'rmsnorm-backward',
    code: backward,
    bindings: {
      x: { elem, access: 'read' },
      weight: { elem, access: 'read' },
      rstd: { elem: 'f32', access: 'read' },
      dy: { elem, access: 'read' },
      dx: { elem, access: 'read_write' },
    },
    params: { rows: 'u32', width: 'u32', features: 'f32', residual: 'u32' },
  });

const kernels = {
  quad: { forward: forwardKernel('vec4<f32>'), backward: backwardKernel('vec4<f32>') },
  scalar: { forward: forwardKernel('f32'), backward: backwardKernel('f32') },
};

/** What both directions share: element type, rows a workgroup takes, sizes. */
function launch(x: TensorRef, profile: AdapterProfile) {
  const features = fixed(x.shape[1], 'width of the normalised rows');
  const quad = features % 4 === 0;
  const perRow = profile.kind === 'gpu' ? 64 : 1;
  return {
    kernels: quad ? kernels.quad : kernels.scalar,
    rows: x.shape[0]!,
    width: quad ? features / 4 : features,
    features,
    rowsPerGroup: 64 / perRow,
    constants: { PER_ROW: perRow, SHARE: { f32: quad ? 1 : 0.25 } } satisfies Dispatch['constants'],
  };
}

/** x (T, D), weight (D) → y (T, D) = weight ⊙ x·rstd, rstd (T) = 1/√(mean(x²) + eps). Any D. */
export const rmsnorm = op({
  name: 'rmsnorm',
  outputs: ({ x }: { x: TensorRef; weight: TensorRef }, _: { eps: number }) => ({
    y: { shape: x.shape, dtype: 'f32' },
    rstd: { shape: [x.shape[0]!], dtype: 'f32' },
  }),
  webgpu: ({ inputs: { x, weight }, outputs: { y, rstd }, attrs: { eps } }, profile) => {
    const { kernels, rows, width, features, rowsPerGroup, constants } = launch(x, profile);
    return [
      {
        kernel: kernels.forward,
        constants,
        bind: { x, weight, y, rstd },
        params: (v) => ({ rows: sizeOf(rows, v), width, features, eps }),
        grid: (v) => spread(ceilDiv(sizeOf(rows, v), rowsPerGroup)),
      },
    ];
  },
  onnx: ({ inputs, attrs: { eps } }, on) => rmsnormOnnx(inputs, eps, on),
});

/**
 * x (T, D), weight (D), rstd (T) of the forward pass, dy (T, D), d_residual (T, D)
 * → dx (T, D) = d_residual + Jᵀ·dy, overwriting d_residual; without d_residual, Jᵀ·dy.
 */
export const rmsnormBackward = op({
  name: 'rmsnorm-backward',
  outputs: ({
    x,
    d_residual,
  }: {
    x: TensorRef;
    weight: TensorRef;
    rstd: TensorRef;
    dy: TensorRef;
    d_residual?: TensorRef | undefined;
  }) => ({ dx: { shape: x.shape, dtype: 'f32', ...(d_residual && { inPlace: 'd_residual' }) } }),
  webgpu: ({ inputs: { x, weight, rstd, dy, d_residual }, outputs: { dx } }, profile) => {
    const { kernels, rows, width, features, rowsPerGroup, constants } = launch(x, profile);
    return [
      {
        kernel: kernels.backward,
        constants,
        bind: { x, weight, rstd, dy, dx },
        params: (v) => ({ rows: sizeOf(rows, v), width, features, residual: d_residual ? 1 : 0 }),
        grid: (v) => spread(ceilDiv(sizeOf(rows, v), rowsPerGroup)),
      },
    ];
  },
  onnx: ({ inputs }, on) => rmsnormBackwardOnnx(inputs, on),
});
