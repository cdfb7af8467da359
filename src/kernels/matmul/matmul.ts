/** Matrix product in f32, the three transpositions a linear layer and its backward need. */
import { ceilDiv, kernel, spread } from '../kernel';
import { fixed, op, sizeOf, type AdapterProfile, type Dispatch, type Size, type TensorRef } from '../op';
import { matmulOnnx } from './matmul.onnx';
import quadTn from './matmul-quad-tn.wgsl?raw';
import quad from './matmul-quad.wgsl?raw';
import register from './matmul-register.wgsl?raw';
import scalar from './matmul-scalar.wgsl?raw';
import tile from './matmul-tile.wgsl?raw';

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

const bindings = (elem: 'f32' | 'vec4<f32>') =>
  ({
    a: { elem, access: 'read' },
    b: { elem, access: 'read' },
    add: { elem, access: 'read' },
    bias: { elem, access: 'read' },
    y: { elem, access: 'read_write' },
  }) as const;

const SIZES = { rows: 'u32', cols: 'u32', depth: 'u32', has_add: 'u32', has_bias: 'u32' } as const;

/** Any sizes, any mode. */
const scalarKernel = kernel({
  name: 'matmul-scalar',
  code: scalar,
  bindings: bindings('f32'),
  params: { ...SIZES, a_row: 'u32', a_depth: 'u32', b_col: 'u32', b_depth: 'u32' },
});

/** Workgroup memory; for GPUs. */
const tileKernel = kernel({
  name: 'matmul-tile',
  code: tile,
  bindings: bindings('vec4<f32>'),
  params: SIZES,
});

/** Steps through b, in vec4s: between four columns, within them, and from four depths to the next. */
const B_STEPS = { b_col: 'u32', b_step: 'u32', b_next: 'u32' } as const;

/** Registers and quad operations; for software adapters. NN and NT. */
const quadKernel = kernel({
  name: 'matmul-quad',
  code: quad,
  bindings: bindings('vec4<f32>'),
  params: { ...SIZES, ...B_STEPS },
  enables: ['subgroups'],
});

/** The same for TN. */
const quadTnKernel = kernel({
  name: 'matmul-quad-tn',
  code: quadTn,
  bindings: bindings('vec4<f32>'),
  params: SIZES,
  enables: ['subgroups'],
});

/** Registers only; for software adapters without quad operations. NN and NT. */
const registerKernel = kernel({
  name: 'matmul-register',
  code: register,
  bindings: bindings('vec4<f32>'),
  params: { ...SIZES, ...B_STEPS },
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

/** What all variants are launched with. */
interface Launch {
  readonly mode: MatmulMode;
  readonly problem: Problem;
  readonly bind: Dispatch['bind'];
  readonly flags: { readonly has_add: number; readonly has_bias: number };
}

function scalarLaunch({ mode, problem: { rows, cols, depth }, bind, flags }: Launch): Dispatch {
  return {
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
  };
}

function tileLaunch({ mode, problem: { rows, cols, depth }, bind, flags }: Launch): Dispatch {
  // narrow products get small tiles, so that there are enough workgroups to fill a GPU
  const side = cols < 512 ? 32 : 64;
  return {
    kernel: tileKernel,
    constants: { TILE: side, A_DEPTH_FIRST: mode === 'TN', B_DEPTH_FIRST: mode !== 'NT' },
    bind,
    params: (v) => ({ rows: sizeOf(rows, v), cols, depth: sizeOf(depth, v), ...flags }),
    grid: (v) => spread(ceilDiv(sizeOf(rows, v), side) * ceilDiv(cols, side)),
  };
}

/** Whether a product has only a few rows: those of decoding steps, as against the tokens `'T'` of a batch. */
const few = (rows: Size): boolean => (typeof rows === 'number' ? rows <= 8 : rows !== 'T');

function registerLaunch(
  { mode, problem: { rows, cols, depth }, bind, flags }: Launch,
  quads: boolean,
): Dispatch {
  const blocks = few(rows) ? 1 : 5; // of four rows
  const sizes: Dispatch['params'] = (v) => ({
    rows: sizeOf(rows, v),
    cols,
    depth: sizeOf(depth, v),
    ...flags,
  });
  if (mode === 'TN') {
    const grid: Dispatch['grid'] = (v) => spread(ceilDiv(sizeOf(rows, v), 16) * ceilDiv(cols, 16));
    return { kernel: quadTnKernel, bind, params: sizes, grid };
  }
  return {
    kernel: quads ? quadKernel : registerKernel,
    constants: { B_ROWS_ARE_COLUMNS: mode === 'NT', ...(quads && { BLOCKS: blocks }) },
    bind,
    params: (v) => {
      const k = sizeOf(depth, v);
      const steps =
        mode === 'NT' ? { b_col: k, b_step: k / 4, b_next: 1 } : { b_col: 1, b_step: cols / 4, b_next: cols };
      return { ...sizes(v), ...steps };
    },
    grid: quads
      ? (v) => spread(ceilDiv(sizeOf(rows, v), 4 * blocks) * ceilDiv(cols, 32))
      : (v) => spread(ceilDiv(ceilDiv(sizeOf(rows, v), 8) * (cols / 4), 4)),
  };
}

/** Whether the rows of a, b and y are whole vec4s. */
function vectorWide({ a, b }: MatmulInputs, { cols }: Problem): boolean {
  const whole = (n: Size): boolean => typeof n === 'number' && n % 4 === 0;
  return whole(a.shape[1]!) && whole(b.shape[1]!) && whole(cols);
}

function launchFor(launch: Launch, vector: boolean, { kind, subgroups }: AdapterProfile): Dispatch {
  if (!vector) return scalarLaunch(launch);
  if (kind === 'gpu') return tileLaunch(launch);
  // without quad operations TN has no fast path: training makes its transposed products in lora/
  if (launch.mode === 'TN' && !subgroups) return scalarLaunch(launch);
  return registerLaunch(launch, subgroups);
}

/**
 * y = a·b (+ add) (+ bias), all f32; `mode` says which operands are transposed.
 * `add` is read, not written: gradients accumulate into a new tensor.
 * Fast when the widths of a, b and y are multiples of 4, right for any.
 */
export const matmul = op({
  name: 'matmul',
  outputs: (inputs: MatmulInputs, { mode }: MatmulAttrs) => {
    const { rows, cols } = problemOf(inputs, mode);
    return { y: { shape: [rows, cols], dtype: 'f32' } };
  },
  webgpu: ({ inputs, outputs: { y }, attrs: { mode } }, profile): Dispatch[] => {
    const { a, b, add, bias } = inputs;
    const problem = problemOf(inputs, mode);
    // an absent operand binds another read-only one: one pipeline serves all combinations
    const bind = { a, b, add: add ?? a, bias: bias ?? b, y };
    const flags = { has_add: add ? 1 : 0, has_bias: bias ? 1 : 0 };
    return [launchFor({ mode, problem, bind, flags }, vectorWide(inputs, problem), profile)];
  },
  onnx: ({ inputs, attrs }, on) => matmulOnnx(inputs, attrs, on),
});
