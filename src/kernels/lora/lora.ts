/**
 * Low-rank adapters on a linear layer (Hu et al. 2021, arXiv 2106.09685):
 * W_eff = W + scale·B·A. Layers whose weights are stacked (q, k, v; gate, up) are
 * row groups of one weight, each with its own A and B: the A's are stacked
 * (G·r, K), the B's (N, r).
 */
import { ceilDiv, kernel, spread } from '../kernel';
import { fixed, op, sizeOf, type Dispatch, type TensorRef } from '../op';
import accumulateCode from './lora-accumulate.wgsl?raw';
import mergeCode from './lora-merge.wgsl?raw';
import projectCode from './lora-project.wgsl?raw';

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

const read = (elem: 'f32' | 'vec4<f32>') => ({ elem, access: 'read' }) as const;
const readWrite = (elem: 'f32' | 'vec4<f32>') => ({ elem, access: 'read_write' }) as const;

const mergeKernel = (elem: 'f32' | 'vec4<f32>') =>
  kernel({
    name: 'lora-merge',
    code: mergeCode,
    bindings: { weight: read(elem), a: read(elem), b: read('f32'), merged: readWrite(elem) },
    params: { rows: 'u32', width: 'u32', rank: 'u32', end0: 'u32', end1: 'u32', scale: 'f32' },
  });
const mergeScalar = mergeKernel('f32');
const mergeVector = mergeKernel('vec4<f32>');

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
  webgpu: ({ inputs: { weight, a, b }, outputs: { merged }, attrs }): Dispatch[] => {
    const { rows, width, end0, end1 } = adapterOf(a, b, attrs);
    const vector = width % 4 === 0;
    const units = vector ? width / 4 : width;
    const { rank, scale } = attrs;
    return [
      {
        kernel: vector ? mergeVector : mergeScalar,
        bind: { weight, a, b, merged },
        params: () => ({ rows, width: units, rank, end0, end1, scale }),
        grid: () => spread(ceilDiv(rows * units, 64)),
      },
    ];
  },
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

const projectKernel = kernel({
  name: 'lora-project',
  code: projectCode,
  bindings: {
    x: read('f32'),
    dy: read('f32'),
    a: read('f32'),
    b: read('f32'),
    u: readWrite('f32'),
    v: readWrite('f32'),
  },
  params: SIZES,
});

const accumulateKernel = kernel({
  name: 'lora-accumulate',
  code: accumulateCode,
  bindings: {
    x: read('f32'),
    dy: read('f32'),
    u: read('f32'),
    v: read('f32'),
    grad_a: readWrite('f32'),
    grad_b: readWrite('f32'),
  },
  params: SIZES,
});

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

/**
 * Gradients of the adapter of y = x·(W + scale·B·A)ᵀ, accumulated (`+=`):
 * grad_a += vᵀ·x and grad_b += scale·dyᵀ·u, from u = x·Aᵀ and v = scale·dy·B
 * (T, G·r each, scratch).
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
    const projected = { shape: [x.shape[0]!, cols], dtype: 'f32' } as const;
    return {
      grad_a: { shape: grad_a.shape, dtype: 'f32', inPlace: 'grad_a' },
      grad_b: { shape: grad_b.shape, dtype: 'f32', inPlace: 'grad_b' },
      u: projected,
      v: projected,
    };
  },
  webgpu: ({ inputs: { x, dy, a, b }, outputs: { grad_a, grad_b, u, v }, attrs }): Dispatch[] => {
    const { rows, width: depth, cols, end0, end1 } = adapterOf(a, b, attrs);
    const { rank, scale } = attrs;
    const params = (values: Readonly<Record<string, number>>) => ({
      tokens: sizeOf(x.shape[0]!, values),
      depth,
      rows,
      cols,
      rank,
      end0,
      end1,
      scale,
    });
    return [
      {
        kernel: projectKernel,
        bind: { x, dy, a, b, u, v },
        params,
        grid: (values) => spread(ceilDiv(sizeOf(x.shape[0]!, values) * cols, 64)),
      },
      {
        kernel: accumulateKernel,
        bind: { x, dy, u, v, grad_a, grad_b },
        params,
        grid: () => spread(ceilDiv(cols * depth + rows * rank, 64)),
      },
    ];
  },
});
