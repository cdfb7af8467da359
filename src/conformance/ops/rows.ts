/** Cases of the ops that go row by row or element by element: embedding, norms, RoPE, the gate. */
import { embedding } from '../../kernels/embedding/embedding';
import { rmsnorm, rmsnormBackward } from '../../kernels/rmsnorm/rmsnorm';
import { rope, ropeTable } from '../../kernels/rope/rope';
import { swiglu, swigluBackward } from '../../kernels/swiglu/swiglu';
import { opCase, type Subject } from '../case';
import { exact, near, ofExp, ofSum } from '../measure';
import { SPREADS, type Random } from '../random';

export const embeddingSubject: Subject = {
  kind: 'op',
  name: embedding.name,
  generate(random) {
    const [T, V, D] = [random.size(130), random.size(100), random.size(65)];
    return opCase(embedding, {
      about: { T, V, D },
      inputs: {
        tokens: { shape: ['T'], data: random.ids(T, V) },
        weight: { shape: [V, D], data: random.values(V * D), state: true },
      },
      attrs: {},
      values: { T },
      checks: { h: exact },
    });
  },
};

/** Spreads of rows whose squares stay within f32. */
const spreadOf = (random: Random) => random.pick(SPREADS);

export const rmsnormSubject: Subject = {
  kind: 'op',
  name: rmsnorm.name,
  generate(random) {
    const [T, D, spread, eps] = [
      random.size(65),
      random.size(130),
      spreadOf(random),
      random.pick([1e-6, 1e-5]),
    ];
    // all terms of the mean have one sign, so its error is relative
    const roundings = ofSum(D) + 8;
    return opCase(rmsnorm, {
      about: { T, D, spread, eps },
      inputs: {
        x: { shape: ['T', D], data: random.values(T * D, spread) },
        weight: { shape: [D], data: random.values(D) },
      },
      attrs: { eps },
      values: { T },
      checks: { y: near(roundings), rstd: near(roundings) },
    });
  },
};

export const rmsnormBackwardSubject: Subject = {
  kind: 'op',
  name: rmsnormBackward.name,
  generate(random) {
    const [T, D, spread, residual] = [
      random.size(65),
      random.size(130),
      spreadOf(random),
      random.chance(0.6),
    ];
    const x = random.values(T * D, spread);
    const weight = random.values(D);
    const dy = random.values(T * D, spreadOf(random));
    const before = random.values(T * D);
    const rstd = new Float32Array(T);
    const magnitude = new Float64Array(T * D);
    for (let t = 0; t < T; t++) {
      const row = (i: number): number => t * D + i;
      let [squares, pull, spreadOfPull] = [0, 0, 0];
      for (let i = 0; i < D; i++) {
        const term = weight[i]! * dy[row(i)]! * x[row(i)]!;
        squares += x[row(i)]! ** 2;
        pull += term;
        spreadOfPull += term ** 2;
      }
      rstd[t] = 1 / Math.sqrt(squares / D + 1e-5);
      const r = rstd[t]!;
      const p = ((Math.abs(pull) + Math.sqrt(spreadOfPull)) * r * r) / D;
      for (let i = 0; i < D; i++) {
        magnitude[row(i)] =
          r * (Math.abs(weight[i]! * dy[row(i)]!) + p * Math.abs(x[row(i)]!)) +
          (residual ? Math.abs(before[row(i)]!) : 0);
      }
    }
    return opCase(rmsnormBackward, {
      about: { T, D, spread, residual },
      inputs: {
        x: { shape: ['T', D], data: x },
        weight: { shape: [D], data: weight },
        rstd: { shape: ['T'], data: rstd },
        dy: { shape: ['T', D], data: dy },
        d_residual: residual ? { shape: ['T', D], data: before } : undefined,
      },
      attrs: {},
      values: { T },
      checks: { dx: near(ofSum(D) + 4, magnitude) },
    });
  },
};

export const ropeSubject: Subject = {
  kind: 'op',
  name: rope.name,
  generate(random) {
    const headDim = 2 * random.int(1, 20);
    const [T, heads, rest] = [random.size(65), random.int(1, 5), random.int(0, 3)];
    const [positions, inverse] = [random.int(1, 200), random.chance(0.5)];
    const width = (heads + rest) * headDim;
    const qkv = random.values(T * width, spreadOf(random));
    const at = random.ids(T, positions);
    const scaling = random.pick([undefined, { rope_type: 'linear', factor: 2.5 }]);
    const table = ropeTable({ theta: 10_000, headDim, scaling }, positions);
    const half = headDim / 2;
    const magnitude = (i: number): number => {
      const [row, column] = [Math.floor(i / width), i % width];
      if (column >= heads * headDim) return 0; // untouched: equal
      const feature = column % headDim;
      const partner = i + (feature < half ? half : -half);
      const angle = at[row]! * headDim + (feature % half);
      return Math.abs(qkv[i]! * table[angle]!) + Math.abs(qkv[partner]! * table[angle + half]!);
    };
    return opCase(rope, {
      about: { T, heads, headDim, width, positions, inverse },
      inputs: {
        qkv: { shape: ['T', width], data: qkv },
        positions: { shape: ['T'], data: at },
        table: { shape: [positions, headDim], data: table, state: true },
      },
      attrs: { heads, headDim, inverse },
      values: { T },
      checks: { qkv: near(4, magnitude) },
    });
  },
};

/** [gate | up] rows and what their activations are measured against. */
interface Gated {
  readonly T: number;
  readonly width: number;
  readonly data: Float32Array<ArrayBuffer>;
  /** gate and up of an element of act (rows, width) */
  readonly at: (i: number) => { readonly gate: number; readonly up: number };
}

/** Gates to ±60 in some cases, where σ is all but 0 or 1. */
function gatedOf(random: Random): Gated {
  const [T, width, steep] = [random.size(65), random.size(65), random.chance(0.3)];
  const data = Float32Array.from({ length: T * 2 * width }, (_, i) =>
    i % (2 * width) < width && steep ? random.within(-60, 60) : 2 * random.normal(),
  );
  const at = (i: number) => {
    const gate = Math.floor(i / width) * 2 * width + (i % width);
    return { gate: data[gate]!, up: data[gate + width]! };
  };
  return { T, width, data, at };
}

const roundingsOfGate = (gate: number): number => ofExp(gate) + 8;

/** σ, and four roundings of 1: ONNX Runtime's Sigmoid is right to that, and not relative to itself. */
const sigma = (gate: number): number => 1 / (1 + Math.exp(-gate)) + 4 / roundingsOfGate(gate);

const actCheck = ({ at }: Gated) =>
  near(
    (i) => roundingsOfGate(at(i).gate),
    (i) => Math.abs(at(i).gate * at(i).up) * sigma(at(i).gate),
  );

export const swigluSubject: Subject = {
  kind: 'op',
  name: swiglu.name,
  generate(random) {
    const gated = gatedOf(random);
    const { T, width, data } = gated;
    return opCase(swiglu, {
      about: { T, width },
      inputs: { gate_up: { shape: ['T', 2 * width], data } },
      attrs: {},
      values: { T },
      checks: { act: actCheck(gated) },
    });
  },
};

export const swigluBackwardSubject: Subject = {
  kind: 'op',
  name: swigluBackward.name,
  generate(random) {
    const gated = gatedOf(random);
    const { T, width, data, at } = gated;
    const dAct = random.values(T * width, spreadOf(random));
    /** the element of act that an element of gate_up belongs to */
    const owner = (i: number): number => Math.floor(i / (2 * width)) * width + (i % width);
    // 1 + gate·(1 − σ) takes σ from 1 where it is rounded: hence |gate| and not |gate|·(1 − σ)
    const magnitude = (i: number): number => {
      const { gate, up } = at(owner(i));
      const d = Math.abs(dAct[owner(i)]!) * sigma(gate);
      return i % (2 * width) < width ? d * Math.abs(up) * (1 + Math.abs(gate)) : d * Math.abs(gate);
    };
    return opCase(swigluBackward, {
      about: { T, width },
      inputs: {
        gate_up: { shape: ['T', 2 * width], data },
        d_act: { shape: ['T', width], data: dAct },
      },
      attrs: {},
      values: { T },
      checks: {
        d_gate_up: near((i) => roundingsOfGate(at(owner(i)).gate), magnitude),
        act: actCheck(gated),
      },
    });
  },
};
