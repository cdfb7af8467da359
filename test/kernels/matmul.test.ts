import { describe, expect, it } from 'vitest';
import { matmul, type MatmulMode } from '../../src/kernels/matmul/matmul';
import { expectClose, randomArray } from '../support/compare';
import { gpu, type HostTensor } from '../support/gpu';
import { onOnnx, onWebGpu, type Run } from '../support/runners';

/** y = a·b in f64. */
function reference(
  mode: MatmulMode,
  [rows, cols, depth]: readonly [number, number, number],
  a: Float32Array,
  b: Float32Array,
): Float64Array {
  const y = new Float64Array(rows * cols);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < cols; j++) {
      let sum = 0;
      for (let k = 0; k < depth; k++) {
        const ai = a[mode === 'TN' ? k * rows + i : i * depth + k]!;
        const bj = b[mode === 'NT' ? j * depth + k : k * cols + j]!;
        sum += ai * bj;
      }
      y[i * cols + j] = sum;
    }
  }
  return y;
}

async function check(
  mode: MatmulMode,
  rows: number,
  cols: number,
  depth: number,
  run: Run,
  { add = false, bias = false, size = 'T' } = {},
): Promise<void> {
  const a = randomArray(rows * depth, 1);
  const b = randomArray(cols * depth, 2);
  const inputs: { a: HostTensor; b: HostTensor; add?: HostTensor; bias?: HostTensor } = {
    a: { shape: mode === 'TN' ? [size, rows] : [size, depth], data: a },
    b: { shape: mode === 'NT' ? [cols, depth] : mode === 'NN' ? [depth, cols] : [size, cols], data: b },
  };
  const expected = reference(mode, [rows, cols, depth], a, b);
  if (add) {
    const data = randomArray(rows * cols, 3);
    inputs.add = { shape: [mode === 'TN' ? rows : size, cols], data };
    data.forEach((x, i) => (expected[i]! += x));
  }
  if (bias) {
    const data = randomArray(cols, 4);
    inputs.bias = { shape: [cols], data };
    for (let i = 0; i < rows * cols; i++) expected[i]! += data[i % cols]!;
  }
  const n = mode === 'TN' ? depth : rows;
  const options = { values: { [size]: n }, capacity: { [size]: n + 3 } };
  const { y } = await run(matmul, inputs, { mode }, options);
  // sums of `depth` products of unit variance
  expectClose(y, expected, { atol: 1e-5 * Math.sqrt(depth), rtol: 1e-4 }, `${mode} ${rows}×${cols}×${depth}`);
}

const EDGES = [1, 3, 4, 5, 8, 12, 15, 16, 17, 19, 20, 21, 28, 31, 32, 33, 36, 60, 63, 64, 65, 68];

const VARIANTS: Record<string, Run> = {
  'quad registers': onWebGpu({ kind: 'software', subgroups: true }),
  'plain registers': onWebGpu({ kind: 'software', subgroups: false }),
  'workgroup tiles': onWebGpu({ kind: 'gpu' }),
  'ONNX Runtime': onOnnx,
};

it('this adapter has the quad operations that a variant needs', async () => {
  expect((await gpu()).profile.subgroups).toBe(true);
});

for (const [variant, run] of Object.entries(VARIANTS)) {
  describe(`matmul by ${variant}`, () => {
    for (const mode of ['NT', 'NN', 'TN'] as const) {
      it(`${mode}: every dimension at and around the tile sizes`, async () => {
        for (const n of EDGES) {
          await check(mode, n, 36, 20, run);
          await check(mode, 20, n, 36, run);
          await check(mode, 36, 20, n, run);
        }
      });
      it(`${mode}: the few rows of decoding steps`, async () => {
        for (const n of [1, 2, 3, 4, 5, 8, 9, 17])
          await check(mode, n, 36, 20, run, { add: true, size: 'B' });
      });
      it(`${mode}: add, bias and both, vector and scalar widths`, async () => {
        for (const [rows, cols, depth] of [
          [33, 68, 132],
          [7, 13, 9],
          [1, 1, 1],
          [68, 64, 128],
        ] as const) {
          await check(mode, rows, cols, depth, run, { add: true });
          await check(mode, rows, cols, depth, run, { bias: true });
          await check(mode, rows, cols, depth, run, { add: true, bias: true });
        }
        // wide enough for the larger workgroup tile
        await check(mode, 68, 516, 20, run, { add: true, bias: true });
      });
    }
  });
}
