/** Cases of the matrix products: plain ones, the merging of adapters, and the gradients of adapters. */
import { loraGradients, loraMerge } from '../../kernels/lora/lora';
import { matmul, type MatmulMode } from '../../kernels/matmul/matmul';
import { opCase, type Operand, type Subject } from '../case';
import { exact, near, ofSum } from '../measure';
import { SPREADS, type Random } from '../random';

type Matrix = ArrayLike<number>;

/** (rows, depth) · (depth, cols) in f64; `a` and `b` give an element by its row and column. */
function product(
  rows: number,
  depth: number,
  cols: number,
  a: (i: number, k: number) => number,
  b: (k: number, j: number) => number,
): Float64Array {
  const y = new Float64Array(rows * cols);
  for (let i = 0; i < rows; i++) {
    for (let k = 0; k < depth; k++) {
      const x = a(i, k);
      if (x === 0) continue;
      for (let j = 0; j < cols; j++) y[i * cols + j]! += x * b(k, j);
    }
  }
  return y;
}

const square = (x: number): number => x * x;

/** |Σ terms| + √Σ terms² of every element of a product. */
function magnitudes(...of: Parameters<typeof product>): Float64Array {
  const [rows, depth, cols, a, b] = of;
  const squares = product(
    rows,
    depth,
    cols,
    (i, k) => square(a(i, k)),
    (k, j) => square(b(k, j)),
  );
  return product(...of).map((sum, i) => Math.abs(sum) + Math.sqrt(squares[i]!));
}

const elementOf =
  (m: Matrix, width: number, transposed = false) =>
  (i: number, j: number): number =>
    transposed ? m[j * width + i]! : m[i * width + j]!;

/** Sizes of about the same cost: few of them large at once. */
function sizes(random: Random): [number, number, number] {
  const [rows, cols] = [random.size(130), random.size(130)];
  return [rows, random.size(rows * cols > 4000 ? 65 : 257), cols];
}

export const matmulSubject: Subject = {
  kind: 'op',
  name: matmul.name,
  generate(random) {
    const mode: MatmulMode = random.pick(['NN', 'NT', 'TN']);
    const even = random.chance(0.6);
    const up = (n: number): number => (even ? 4 * Math.ceil(n / 4) : n);
    const [rows, depth, cols] = sizes(random).map(up) as [number, number, number];
    const spread = random.pick(SPREADS);
    // rows of decoding steps ('B') take other tiles than those of batches ('T')
    const name = random.pick(['T', 'B']);
    const a = random.values(rows * depth, spread);
    const b = random.values(depth * cols, random.pick(SPREADS));
    const add = random.chance(0.5) ? random.values(rows * cols) : undefined;
    const bias = random.chance(0.3) ? random.values(cols) : undefined;
    const magnitude = magnitudes(
      rows,
      depth,
      cols,
      mode === 'TN' ? elementOf(a, rows, true) : elementOf(a, depth),
      mode === 'NT' ? elementOf(b, depth, true) : elementOf(b, cols),
    );
    magnitude.forEach((size, i) => {
      magnitude[i] = size + Math.abs(add?.[i] ?? 0) + Math.abs(bias?.[i % cols] ?? 0);
    });
    const dynamic = mode === 'TN' ? depth : rows;
    const shapes = {
      NN: [
        [name, depth],
        [depth, cols],
        [name, cols],
      ],
      NT: [
        [name, depth],
        [cols, depth],
        [name, cols],
      ],
      TN: [
        [name, rows],
        [name, cols],
        [rows, cols],
      ],
    } as const;
    const [ofA, ofB, ofY] = shapes[mode];
    return opCase(matmul, {
      about: {
        mode,
        rows,
        depth,
        cols,
        add: add !== undefined,
        bias: bias !== undefined,
        spread,
        dynamic: name,
      },
      inputs: {
        a: { shape: ofA, data: a },
        b: { shape: ofB, data: b, state: mode !== 'TN' },
        add: add && { shape: ofY, data: add },
        bias: bias && { shape: [cols], data: bias },
      },
      attrs: { mode },
      values: { [name]: dynamic },
      checks: { y: near(ofSum(depth), magnitude) },
    });
  },
};

interface Adapter {
  readonly rank: number;
  readonly scale: number;
  readonly groups: readonly number[];
  readonly rows: number;
  readonly width: number;
  /** the group of a row */
  readonly groupOf: (row: number) => number;
}

function adapterOf(random: Random): Adapter {
  const even = random.chance(0.6);
  const up = (n: number): number => (even ? 4 * Math.ceil(n / 4) : n);
  const rank = up(random.pick([1, 2, 3, 4, 8, 16, 17]));
  const groups: number[] = [];
  for (let g = random.int(1, 3); g > 0; g--) groups.push((groups.at(-1) ?? 0) + up(random.size(48)));
  const groupOf = (row: number): number => groups.findIndex((end) => row < end);
  return {
    rank,
    scale: random.pick([0.5, 2, 32 / rank]),
    groups,
    rows: groups.at(-1)!,
    width: up(random.size(96)),
    groupOf,
  };
}

const aboutAdapter = ({ rank, scale, groups, width }: Adapter) => ({ rank, scale, groups, width });

export const loraMergeSubject: Subject = {
  kind: 'op',
  name: loraMerge.name,
  generate(random) {
    const adapter = adapterOf(random);
    const { rank, scale, groups, rows, width, groupOf } = adapter;
    const fresh = random.chance(0.2);
    const weight = random.values(rows * width, random.pick(SPREADS));
    const a = random.values(groups.length * rank * width);
    const b = fresh ? new Float32Array(rows * rank) : random.values(rows * rank);
    const magnitude = new Float64Array(rows * width);
    for (let i = 0; i < rows; i++) {
      for (let c = 0; c < width; c++) {
        let [sum, squares] = [0, 0];
        for (let r = 0; r < rank; r++) {
          const term = scale * b[i * rank + r]! * a[(groupOf(i) * rank + r) * width + c]!;
          sum += term;
          squares += term * term;
        }
        magnitude[i * width + c] = Math.abs(weight[i * width + c]!) + Math.abs(sum) + Math.sqrt(squares);
      }
    }
    return opCase(loraMerge, {
      about: { ...aboutAdapter(adapter), fresh },
      inputs: {
        weight: { shape: [rows, width], data: weight, state: true },
        a: { shape: [groups.length * rank, width], data: a },
        b: { shape: [rows, rank], data: b },
      },
      attrs: { rank, scale, groups },
      // while B is zero, W passes bit for bit
      checks: { merged: fresh ? exact : near(ofSum(rank), magnitude) },
    });
  },
};

export const loraGradientsSubject: Subject = {
  kind: 'op',
  name: loraGradients.name,
  generate(random) {
    const adapter = adapterOf(random);
    const { rank, scale, groups, rows, width, groupOf } = adapter;
    const T = random.size(100);
    const cols = groups.length * rank;
    const x = random.values(T * width, random.pick(SPREADS));
    const dy = random.values(T * rows, random.pick(SPREADS));
    const a = random.values(cols * width);
    const b = random.values(rows * rank);
    const gradA = random.values(cols * width);
    const gradB = random.values(rows * rank);
    // u = x·Aᵀ and v = scale·dy·B carry their own roundings into the second product
    const u = magnitudes(T, width, cols, elementOf(x, width), elementOf(a, width, true));
    const bAt = (row: number, c: number): number =>
      groupOf(row) === Math.floor(c / rank) ? scale * b[row * rank + (c % rank)]! : 0;
    const v = magnitudes(T, rows, cols, elementOf(dy, rows), bAt);
    const ofA = product(
      cols,
      T,
      width,
      (c, t) => square(v[t * cols + c]!),
      (t, k) => square(x[t * width + k]!),
    ).map(Math.sqrt);
    const ofB = new Float64Array(rows * rank);
    for (let i = 0; i < rows; i++) {
      for (let r = 0; r < rank; r++) {
        let sum = 0;
        for (let t = 0; t < T; t++)
          sum += square(scale * dy[t * rows + i]! * u[t * cols + groupOf(i) * rank + r]!);
        ofB[i * rank + r] = Math.sqrt(sum);
      }
    }
    const state = (data: Float32Array<ArrayBuffer>, ...shape: number[]): Operand => ({
      shape,
      data,
      state: true,
    });
    return opCase(loraGradients, {
      about: { ...aboutAdapter(adapter), T },
      inputs: {
        x: { shape: ['T', width], data: x },
        dy: { shape: ['T', rows], data: dy },
        a: state(a, cols, width),
        b: state(b, rows, rank),
        grad_a: state(gradA, cols, width),
        grad_b: state(gradB, rows, rank),
      },
      attrs: { rank, scale, groups },
      values: { T },
      checks: {
        grad_a: (ours, oracle, all) =>
          near(ofSum(T, rows), (i) => Math.abs(oracle[i]!) + Math.abs(gradA[i]!) + ofA[i]!)(
            ours,
            oracle,
            all,
          ),
        grad_b: (ours, oracle, all) =>
          near(ofSum(T, width), (i) => Math.abs(oracle[i]!) + Math.abs(gradB[i]!) + ofB[i]!)(
            ours,
            oracle,
            all,
          ),
      },
    });
  },
};
