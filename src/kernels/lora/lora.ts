/**
 * Low-rank adapters on a linear layer (Hu et al. 2021, arXiv 2106.09685):
 * W_eff = W + scale·B·A. Layers whose weights are stacked (q, k, v; gate, up) are
 * row groups of one weight, each with its own A and B: the A's are stacked
 * (G·r, K), the B's (N, r).
 */
import { ceilDiv, kernel, spread } from '../kernel';
import { fixed, op, sizeOf, type AdapterProfile, type Dispatch, type RunValues, type TensorRef } from '../op';
import { loraGradientsOnnx, loraMergeOnnx } from './lora.onnx';
import accumulateQuadCode from './lora-accumulate-quad.wgsl?raw';
import accumulateScalarCode from './lora-accumulate-scalar.wgsl?raw';
import accumulateTileCode from './lora-accumulate-tile.wgsl?raw';
import mergeRegisterCode from './lora-merge-register.wgsl?raw';
import mergeCode from './lora-merge.wgsl?raw';
import projectQuadCode from './lora-project-quad.wgsl?raw';
import projectScalarCode from './lora-project-scalar.wgsl?raw';
import projectTileCode from './lora-project-tile.wgsl?raw';

export interface LoraAttrs {
  readonly rank: number;
  /** alpha / rank */
  readonly scale: number;
  /** End rows of the row groups of the stacked weight, ascending; at most 3, the last is N. */
  readonly groups: readonly number[];
}

const MAX_GROUPS = 3;

interface Adapter {
  readonly rows: number;
  readonly width: number;
  readonly cols: number;
  readonly end0: number;
  readonly end1: number;
}

/** Checks a (G·r, K) and b (N, r) against the attributes. */
function adapterOf(a: TensorRef, b: TensorRef, { rank, groups }: LoraAttrs): Adapter {
  const rows = fixed(b.shape[0], 'rows of B');
  const width = fixed(a.shape[1], 'columns of A');
  const cols = groups.length * rank;
  if (groups.length < 1 || groups.length > MAX_GROUPS) {
    throw new Error(`lora: ${groups.length} row groups; 1 to ${MAX_GROUPS} are supported`);
  }
  if (!groups.every((end, g) => end > (groups[g - 1] ?? 0)) || groups.at(-1) !== rows) {
    throw new Error(`lora: row groups must ascend and end at N = ${rows}, got ${groups.join(', ')}`);
  }
  if (a.shape[0] !== cols || b.shape[1] !== rank) {
    throw new Error(
      `lora: rank ${rank} in ${groups.length} groups needs A (${cols}, K) and B (N, ${rank}), got (${a.shape.join(', ')}) and (${b.shape.join(', ')})`,
    );
  }
  return { rows, width, cols, end0: groups[0]!, end1: groups[1] ?? rows };
}

type Float = 'f32' | 'vec4<f32>';
const read = (elem: Float) => ({ elem, access: 'read' }) as const;
const readWrite = (elem: Float) => ({ elem, access: 'read_write' }) as const;

const MERGE_PARAMS = {
  rows: 'u32',
  width: 'u32',
  rank: 'u32',
  end0: 'u32',
  end1: 'u32',
  scale: 'f32',
} as const;

/** One element (or vec4) of the merged weight a thread. */
const mergeKernel = (elem: Float) =>
  kernel({
    name: 'lora-merge',
    code: mergeCode,
    bindings: { weight: read(elem), a: read(elem), b: read('f32'), merged: readWrite(elem) },
    params: MERGE_PARAMS,
  });
const mergeScalar = mergeKernel('f32');
const mergeVector = mergeKernel('vec4<f32>');

/** Register tiles, for software adapters. */
const mergeRegister = kernel({
  name: 'lora-merge-register',
  code: mergeRegisterCode,
  bindings: {
    weight: read('vec4<f32>'),
    a: read('vec4<f32>'),
    b: read('vec4<f32>'),
    merged: readWrite('vec4<f32>'),
  },
  params: MERGE_PARAMS,
});

/**
 * weight (N, K), a (G·r, K), b (N, r) → merged (N, K) = weight + scale·B·A, row group by row group.
 * Equal to weight, bit for bit, when b is zero.
 */
export const loraMerge = op({
  name: 'lora-merge',
  outputs: ({ weight, a, b }: { weight: TensorRef; a: TensorRef; b: TensorRef }, attrs: LoraAttrs) => {
    const { rows, width } = adapterOf(a, b, attrs);
    if (weight.shape[0] !== rows || weight.shape[1] !== width) {
      throw new Error(`lora-merge: weight (${weight.shape.join(', ')}) is not (${rows}, ${width})`);
    }
    return { merged: { shape: weight.shape, dtype: 'f32' } };
  },
  webgpu: ({ inputs: { weight, a, b }, outputs: { merged }, attrs }, profile): Dispatch[] => {
    const { rows, width, end0, end1 } = adapterOf(a, b, attrs);
    const { rank, scale } = attrs;
    const bind = { weight, a, b, merged };
    const vector = width % 4 === 0;
    if (vector && rank % 4 === 0 && profile.kind === 'software') {
      const blocks = ceilDiv(end0, 8) + ceilDiv(end1 - end0, 8) + ceilDiv(rows - end1, 8);
      return [
        {
          kernel: mergeRegister,
          bind,
          params: () => ({ rows, width, rank, end0, end1, scale }),
          grid: () => spread(ceilDiv((blocks * width) / 4, 4)),
        },
      ];
    }
    const units = vector ? width / 4 : width;
    return [
      {
        kernel: vector ? mergeVector : mergeScalar,
        bind,
        params: () => ({ rows, width: units, rank, end0, end1, scale }),
        grid: () => spread(ceilDiv(rows * units, 64)),
      },
    ];
  },
  onnx: ({ inputs, attrs }, on) => loraMergeOnnx(inputs, attrs, on),
});

const SIZES = {
  tokens: 'u32',
  depth: 'u32',
  rows: 'u32',
  cols: 'u32',
  rank: 'u32',
  end0: 'u32',
  end1: 'u32',
  scale: 'f32',
} as const;

/** The two launches of the gradients, in one of three styles. */
const gradientKernels = (
  style: string,
  elem: Float,
  project: string,
  accumulate: string,
  enables: string[],
) => ({
  project: kernel({
    name: `lora-project-${style}`,
    code: project,
    bindings: { x: read(elem), dy: read(elem), a: read(elem), b: read(elem), uv: readWrite(elem) },
    params: SIZES,
    enables,
  }),
  accumulate: kernel({
    name: `lora-accumulate-${style}`,
    code: accumulate,
    bindings: {
      x: read(elem),
      dy: read(elem),
      uv: read(elem),
      grad_a: readWrite(elem),
      grad_b: readWrite(elem),
    },
    params: SIZES,
    enables,
  }),
});

/** Any sizes. */
const scalarKernels = gradientKernels('scalar', 'f32', projectScalarCode, accumulateScalarCode, []);
/** Sums split over the threads of a workgroup, for GPUs. */
const tileKernels = gradientKernels('tile', 'vec4<f32>', projectTileCode, accumulateTileCode, []);
/** Registers and quad operations, for software adapters. */
const quadKernels = gradientKernels('quad', 'vec4<f32>', projectQuadCode, accumulateQuadCode, ['subgroups']);

export type LoraGradientInputs = {
  /** (T, K): what the layer read */
  readonly x: TensorRef;
  /** (T, N): gradient of what it wrote */
  readonly dy: TensorRef;
  /** (G·r, K) */
  readonly a: TensorRef;
  /** (N, r) */
  readonly b: TensorRef;
  /** (G·r, K), accumulated in place */
  readonly grad_a: TensorRef;
  /** (N, r), accumulated in place */
  readonly grad_b: TensorRef;
};

/** Tiles of 16 × 16 that cover a matrix. */
const tiles = (rows: number, cols: number): number => ceilDiv(rows, 16) * ceilDiv(cols, 16);

/**
 * Gradients of the adapter of y = x·(W + scale·B·A)ᵀ, accumulated (`+=`), from
 * u = x·Aᵀ and v = scale·dy·B: grad_a += vᵀ·x and grad_b += scale·dyᵀ·u, row group
 * by row group. `uv` (T, 2·G·r) = [u | v] is scratch.
 * Fast when K, N, the rank and the group ends are multiples of 4, right for any.
 */
export const loraGradients = op({
  name: 'lora-gradients',
  outputs: ({ x, dy, a, b, grad_a, grad_b }: LoraGradientInputs, attrs: LoraAttrs) => {
    const { rows, width, cols } = adapterOf(a, b, attrs);
    adapterOf(grad_a, grad_b, attrs);
    if (x.shape[1] !== width || dy.shape[1] !== rows || x.shape[0] !== dy.shape[0]) {
      throw new Error(
        `lora-gradients: x (${x.shape.join(', ')}) and dy (${dy.shape.join(', ')}) are not (T, ${width}) and (T, ${rows})`,
      );
    }
    return {
      grad_a: { shape: grad_a.shape, dtype: 'f32', inPlace: 'grad_a' },
      grad_b: { shape: grad_b.shape, dtype: 'f32', inPlace: 'grad_b' },
      uv: { shape: [x.shape[0]!, 2 * cols], dtype: 'f32' },
    };
  },
  webgpu: ({ inputs: { x, dy, a, b }, outputs: { grad_a, grad_b, uv }, attrs }, profile): Dispatch[] => {
    const { rows, width: depth, cols, end0, end1 } = adapterOf(a, b, attrs);
    const { rank, scale, groups } = attrs;
    const tokens = (v: RunValues): number => sizeOf(x.shape[0]!, v);
    const params: Dispatch['params'] = (v) => ({
      tokens: tokens(v),
      depth,
      rows,
      cols,
      rank,
      end0,
      end1,
      scale,
    });
    const vector = [depth, rank, ...groups].every((n) => n % 4 === 0);
    const { project, accumulate } = vector ? vectorKernels(profile) : scalarKernels;
    const tilesOfB = groups.reduce((sum, end, g) => sum + tiles(rank, end - (groups[g - 1] ?? 0)), 0);
    return [
      {
        kernel: project,
        bind: { x, dy, a, b, uv },
        params,
        grid: (v) =>
          vector
            ? spread(tiles(tokens(v), cols) + groups.length * tiles(tokens(v), rank))
            : spread(ceilDiv(tokens(v) * cols, 64)),
      },
      {
        kernel: accumulate,
        bind: { x, dy, uv, grad_a, grad_b },
        params,
        grid: () =>
          vector ? spread(tiles(cols, depth) + tilesOfB) : spread(ceilDiv(cols * depth + rows * rank, 64)),
      },
    ];
  },
  onnx: ({ inputs, attrs }, on) => loraGradientsOnnx(inputs, attrs, on),
});

function vectorKernels({ kind, subgroups }: AdapterProfile): typeof tileKernels {
  return kind === 'software' && subgroups ? quadKernels : tileKernels;
}
