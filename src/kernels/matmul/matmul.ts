/** Matrix product in f32, the three transpositions a linear layer and its backward need. */
import { ceilDiv, kernel, spread } from '../kernel';
import { fixed, op, sizeOf, type Dispatch, type Size, type TensorRef } from '../op';
import scalar from './matmul-scalar.wgsl?raw';

/**
 * Which operands are transposed:
 * - `NN` a (T, K), b (K, N) → y (T, N): `dx = dy·W`
 * - `NT` a (T, K), b (N, K) → y (T, N): `y = x·Wᵀ`, the forward of a linear layer
 * - `TN` a (T, M), b (T, N) → y (M, N): `dW = dyᵀ·x`
 */
export type MatmulMode = 'NN' | 'NT' | 'TN';

export interface MatmulAttrs {
  readonly mode: MatmulMode;
}

export type MatmulInputs = {
  readonly a: TensorRef;
  readonly b: TensorRef;
  /** same shape as y */
  readonly add?: TensorRef | undefined;
  /** (N) */
  readonly bias?: TensorRef | undefined;
};

const BINDINGS = {
  a: { elem: 'f32', access: 'read' },
  b: { elem: 'f32', access: 'read' },
  add: { elem: 'f32', access: 'read' },
  bias: { elem: 'f32', access: 'read' },
  y: { elem: 'f32', access: 'read_write' },
} as const;

const scalarKernel = kernel({
  name: 'matmul-scalar',
  code: scalar,
  bindings: BINDINGS,
  params: {
    rows: 'u32',
    cols: 'u32',
    depth: 'u32',
    a_row: 'u32',
    a_depth: 'u32',
    b_col: 'u32',
    b_depth: 'u32',
    has_add: 'u32',
    has_bias: 'u32',
  },
});

/** Sizes of a product: y is (rows, cols), the sum runs over depth. */
interface Problem {
  readonly rows: Size;
  readonly cols: number;
  readonly depth: Size;
}

function problemOf({ a, b, add, bias }: MatmulInputs, mode: MatmulMode): Problem {
  const at = (t: TensorRef, i: 0 | 1): Size => t.shape[i]!;
  for (const [name, t] of [
    ['a', a],
    ['b', b],
  ] as const) {
    if (t.shape.length !== 2 || t.dtype !== 'f32') {
      throw new Error(
        `matmul ${mode}: ${name} must be an f32 matrix, got ${t.dtype} (${t.shape.join(', ')})`,
      );
    }
  }
  const rows = mode === 'TN' ? at(a, 1) : at(a, 0);
  const depth = mode === 'TN' ? at(a, 0) : at(a, 1);
  const cols = fixed(mode === 'NT' ? at(b, 0) : at(b, 1), `matmul ${mode}: columns of y`);
  const depthOfB = mode === 'NT' ? at(b, 1) : at(b, 0);
  if (depth !== depthOfB) {
    throw new Error(
      `matmul ${mode}: a (${a.shape.join(', ')}) and b (${b.shape.join(', ')}) disagree on the summed dimension`,
    );
  }
  if (add && (add.shape.length !== 2 || add.shape[0] !== rows || add.shape[1] !== cols)) {
    throw new Error(`matmul ${mode}: add (${add.shape.join(', ')}) is not of y's shape (${rows}, ${cols})`);
  }
  if (bias && (bias.shape.length !== 1 || bias.shape[0] !== cols)) {
    throw new Error(`matmul ${mode}: bias (${bias.shape.join(', ')}) is not of y's width (${cols})`);
  }
  return { rows, cols, depth };
}

/**
 * y = a·b (+ add) (+ bias), all f32; `mode` says which operands are transposed.
 * `add` is read, not written: gradients accumulate into a new tensor.
 */
export const matmul = op({
  name: 'matmul',
  outputs: (inputs: MatmulInputs, { mode }: MatmulAttrs) => {
    const { rows, cols } = problemOf(inputs, mode);
    return { y: { shape: [rows, cols], dtype: 'f32' } };
  },
  webgpu: ({ inputs, outputs: { y }, attrs: { mode } }): Dispatch[] => {
    const { a, b, add, bias } = inputs;
    const { rows, cols, depth } = problemOf(inputs, mode);
    // an absent operand binds another read-only one: one pipeline serves all combinations
    const bind = { a, b, add: add ?? a, bias: bias ?? b, y };
    const flags = { has_add: add ? 1 : 0, has_bias: bias ? 1 : 0 };
    return [
      {
        kernel: scalarKernel,
        bind,
        params: (v) => {
          const [m, k] = [sizeOf(rows, v), sizeOf(depth, v)];
          return {
            rows: m,
            cols,
            depth: k,
            a_row: mode === 'TN' ? 1 : k,
            a_depth: mode === 'TN' ? m : 1,
            b_col: mode === 'NT' ? k : 1,
            b_depth: mode === 'NT' ? 1 : cols,
            ...flags,
          };
        },
        grid: (v) => spread(ceilDiv(ceilDiv(sizeOf(rows, v), 4) * ceilDiv(cols, 4), 64)),
      },
    ];
  },
});
