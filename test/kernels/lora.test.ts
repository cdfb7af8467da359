import { describe, expect, it } from 'vitest';
import { loraGradients, loraMerge } from '../../src/kernels/lora/lora';
import fixtures from '../fixtures/lora.json';
import { expectClose, randomArray } from '../support/compare';
import { onOnnx, onWebGpu, type Run } from '../support/runners';

const f32 = (values: ArrayLike<number>): Float32Array<ArrayBuffer> => Float32Array.from(values);

interface Problem {
  readonly tokens: number;
  readonly width: number;
  readonly groups: readonly number[];
  readonly rank: number;
  readonly scale: number;
  readonly x: Float32Array<ArrayBuffer>;
  readonly dy: Float32Array<ArrayBuffer>;
  readonly weight: Float32Array<ArrayBuffer>;
  readonly a: Float32Array<ArrayBuffer>;
  readonly b: Float32Array<ArrayBuffer>;
}

interface Answer {
  readonly merged: ArrayLike<number>;
  readonly grad_a: ArrayLike<number>;
  readonly grad_b: ArrayLike<number>;
}

function randomProblem(tokens: number, width: number, groups: readonly number[], rank: number): Problem {
  const rows = groups.at(-1)!;
  return {
    tokens,
    width,
    groups,
    rank,
    scale: 32 / rank,
    x: randomArray(tokens * width, 1),
    dy: randomArray(tokens * rows, 2),
    weight: randomArray(rows * width, 3),
    a: randomArray(groups.length * rank * width, 4),
    b: randomArray(rows * rank, 5),
  };
}

/** The definitions, in f64. */
function reference({ tokens, width, groups, rank, scale, x, dy, weight, a, b }: Problem): Answer {
  const rows = groups.at(-1)!;
  const merged = Float64Array.from(weight);
  const gradA = new Float64Array(a.length);
  const gradB = new Float64Array(b.length);
  for (let n = 0; n < rows; n++) {
    const first = groups.findIndex((end) => n < end) * rank;
    const dw = new Float64Array(width); // row n of dL/dW = dyᵀ·x
    for (let t = 0; t < tokens; t++) {
      for (let k = 0; k < width; k++) dw[k]! += dy[t * rows + n]! * x[t * width + k]!;
    }
    for (let j = 0; j < rank; j++) {
      for (let k = 0; k < width; k++) {
        merged[n * width + k]! += scale * b[n * rank + j]! * a[(first + j) * width + k]!;
        gradA[(first + j) * width + k]! += scale * b[n * rank + j]! * dw[k]!;
        gradB[n * rank + j]! += scale * dw[k]! * a[(first + j) * width + k]!;
      }
    }
  }
  return { merged, grad_a: gradA, grad_b: gradB };
}

async function check(p: Problem, answer: Answer, run: Run): Promise<void> {
  const { tokens, width, groups, rank, scale } = p;
  const rows = groups.at(-1)!;
  const attrs = { rank, scale, groups };
  const what = `T=${tokens} K=${width} rows ${groups.join('/')} rank ${rank}`;
  const a = { shape: [groups.length * rank, width], data: p.a };
  const b = { shape: [rows, rank], data: p.b };
  const weight = { shape: [rows, width], data: p.weight };
  const { merged } = await run(loraMerge, { weight, a, b }, attrs);
  expectClose(merged, answer.merged, { atol: 1e-5 * scale * Math.sqrt(rank), rtol: 1e-4 }, `merged, ${what}`);

  const seedA = randomArray(p.a.length, 6);
  const seedB = randomArray(p.b.length, 7);
  const got = await run(
    loraGradients,
    {
      x: { shape: ['T', width], data: p.x },
      dy: { shape: ['T', rows], data: p.dy },
      a,
      b,
      grad_a: { ...a, data: seedA },
      grad_b: { ...b, data: seedB },
    },
    attrs,
    { values: { T: tokens }, capacity: { T: tokens + 3 } },
  );
  // double sums over tokens and over rows or width: the absolute part follows their size
  const atol = 1e-5 * scale * Math.sqrt(tokens * Math.max(rows, width));
  const plus = (grad: ArrayLike<number>, seed: Float32Array) => seed.map((s, i) => s + grad[i]!);
  expectClose(got.grad_a, plus(answer.grad_a, seedA), { atol, rtol: 1e-3 }, `grad_a, ${what}`);
  expectClose(got.grad_b, plus(answer.grad_b, seedB), { atol, rtol: 1e-3 }, `grad_b, ${what}`);
}

const VARIANTS: Record<string, Run> = {
  'quad registers': onWebGpu({ kind: 'software', subgroups: true }),
  'workgroup tiles': onWebGpu({ kind: 'gpu' }),
  'workgroup tiles on software': onWebGpu({ kind: 'software', subgroups: false }),
  'ONNX Runtime': onOnnx,
};

for (const [variant, run] of Object.entries(VARIANTS)) {
  describe(`lora by ${variant}`, () => {
    it('matches PyTorch autograd', async () => {
      for (const c of fixtures) {
        const p: Problem = {
          ...c,
          x: f32(c.x),
          dy: f32(c.dy),
          weight: f32(c.weight),
          a: f32(c.a),
          b: f32(c.b),
        };
        await check(p, c, run);
      }
    });

    it('matches f64 at odd tokens, widths, groups and ranks', async () => {
      for (const [tokens, width, groups, rank] of [
        [1, 1, [1], 1],
        [1, 4, [4, 8, 12], 1],
        [3, 4, [4], 2],
        [4, 5, [3, 4, 9], 4],
        [15, 16, [16, 20, 24], 8],
        [16, 60, [32, 48, 64], 16],
        [17, 64, [7, 70], 32],
        [31, 68, [64, 65], 64],
        [65, 33, [12, 20, 40], 32],
        [1, 8, [4], 4],
        [15, 16, [4, 8], 4],
        [18, 12, [12, 16, 36], 8],
        [129, 128, [128, 192, 256], 16],
        [260, 36, [36], 256],
      ] as const) {
        const p = randomProblem(tokens, width, groups, rank);
        await check(p, reference(p), run);
      }
    });
  });
}

describe('lora', () => {
  it('gives the same bits every time', async () => {
    const p = randomProblem(130, 36, [20, 40], 16);
    const inputs = {
      x: { shape: ['T', 36], data: p.x },
      dy: { shape: ['T', 40], data: p.dy },
      a: { shape: [32, 36], data: p.a },
      b: { shape: [40, 16], data: p.b },
      grad_a: { shape: [32, 36], data: new Float32Array(p.a.length) },
      grad_b: { shape: [40, 16], data: new Float32Array(p.b.length) },
    };
    for (const run of Object.values(VARIANTS)) {
      const options = { values: { T: 130 } };
      const once = await run(loraGradients, inputs, p, options);
      expect(await run(loraGradients, inputs, p, options)).toEqual(once);
    }
  });

  it('merging a zero B gives the weight bit for bit', async () => {
    const p = randomProblem(1, 20, [8, 11], 4);
    for (const run of Object.values(VARIANTS)) {
      const { merged } = await run(
        loraMerge,
        {
          weight: { shape: [11, 20], data: p.weight },
          a: { shape: [8, 20], data: p.a },
          b: { shape: [11, 4], data: new Float32Array(44) },
        },
        p,
      );
      expect(merged).toEqual(p.weight);
    }
  });

  it('refuses groups that do not end at N', async () => {
    const p = randomProblem(1, 4, [8], 2);
    const inputs = {
      weight: { shape: [8, 4], data: p.weight },
      a: { shape: [4, 4], data: randomArray(16, 1) },
      b: { shape: [8, 2], data: p.b },
    };
    await expect(onOnnx(loraMerge, inputs, { ...p, groups: [4, 7] })).rejects.toThrow('end at N = 8');
  });
});
