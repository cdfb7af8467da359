/** f32 matrix products at 512³ and at the shapes of the models, beside a naive kernel and jax-js. */
import { blockUntilReady, defaultDevice, init, jit, numpy as np } from '@jax-js/jax';
import { openContext } from '../src/engine/devices/webgpu/context';
import { Plan, type GpuContext } from '../src/engine/devices/webgpu/plan';
import { Trace } from '../src/engine/trace';
import { matmul } from '../src/kernels/matmul/matmul';
import {
  expectAgreement,
  interleave,
  median,
  medianRatio,
  seeded,
  timed,
  uniformArray,
  type Bench,
} from './harness';
import { naiveMatmul } from './naive-matmul';

interface Case {
  readonly mode: 'NN' | 'NT';
  readonly rows: number;
  readonly depth: number;
  readonly cols: number;
}

/** (inputs, outputs) of the linears: `webtinker/pocket`, then the model of the training-step benchmark. */
const LINEARS = [
  [128, 256],
  [128, 128],
  [128, 768],
  [384, 128],
  [128, 384],
  [128, 1024],
  [512, 128],
] as const;
const TOKENS = 1024;
/** milliseconds that a timed round aims at */
const ROUND = 60;

const CASES: readonly Case[] = [
  { mode: 'NN', rows: 512, depth: 512, cols: 512 },
  { mode: 'NT', rows: 512, depth: 512, cols: 512 },
  // forward y = x·Wᵀ and backward dx = dy·W of every linear
  ...LINEARS.map(([k, n]) => ({ mode: 'NT', rows: TOKENS, depth: k, cols: n }) as const),
  ...LINEARS.map(([k, n]) => ({ mode: 'NN', rows: TOKENS, depth: n, cols: k }) as const),
];

/** One implementation of one case. */
interface Subject {
  /** the product once, on the host */
  result(): Promise<Float32Array>;
  /** the product `count` times; settles when the GPU has done them all */
  run(count: number): Promise<void>;
  dispose(): void;
}

type Operands = Readonly<Record<'a' | 'b', Float32Array<ArrayBuffer>>>;
type Product = typeof matmul;

async function planSubject(gpu: GpuContext, op: Product, c: Case, data: Operands): Promise<Subject> {
  const trace = new Trace(`bench.${op.name}`);
  const a = trace.input('a', [c.rows, c.depth], 'f32');
  const b = trace.input('b', c.mode === 'NT' ? [c.cols, c.depth] : [c.depth, c.cols], 'f32');
  trace.output('y', trace.apply(op, { a, b }, { mode: c.mode }).y);
  const plan = await Plan.compile(gpu, trace, {});
  const bound = plan.bind('bench', {});
  return {
    result: async () => (await bound.run({ values: {}, inputs: data, read: ['y'] })).y as Float32Array,
    run: async (repeat) => {
      await bound.run({ values: {}, repeat });
      await gpu.device.queue.onSubmittedWorkDone();
    },
    dispose: () => plan.dispose(),
  };
}

function jaxSubject(c: Case, data: Operands): Subject {
  const a = np.array(data.a, { shape: [c.rows, c.depth] });
  const b = np.array(data.b, { shape: c.mode === 'NT' ? [c.cols, c.depth] : [c.depth, c.cols] });
  const product = jit((x: np.Array, w: np.Array) => np.matmul(x, c.mode === 'NT' ? w.transpose() : w));
  return {
    result: async () => (await product(a.ref, b.ref).data()) as Float32Array,
    run: async (count) => {
      const outputs = Array.from({ length: count }, () => product(a.ref, b.ref));
      await blockUntilReady(outputs);
      for (const y of outputs) y.dispose();
    },
    dispose: () => {
      a.dispose();
      b.dispose();
      product.dispose();
    },
  };
}

const bench: Bench = async (context) => {
  const gpu = await openContext();
  if (!(await init('webgpu')).includes('webgpu')) throw new Error('jax-js found no WebGPU');
  defaultDevice('webgpu');
  const next = seeded(4);
  for (const c of CASES) {
    const name = `matmul ${c.rows}×${c.depth}×${c.cols} ${c.mode}`;
    if (!name.includes(context.filter)) continue;
    const data = { a: uniformArray(c.rows * c.depth, 1, next), b: uniformArray(c.depth * c.cols, 1, next) };
    const subjects = {
      webtinker: await planSubject(gpu, matmul, c, data),
      naive: await planSubject(gpu, naiveMatmul, c, data),
      'jax-js': jaxSubject(c, data),
    };
    const expected = await subjects['jax-js'].result();
    expectAgreement(`${name} webtinker`, await subjects.webtinker.result(), expected, 1e-4);
    expectAgreement(`${name} naive`, await subjects.naive.result(), expected, 1e-4);

    const flops = 2 * c.rows * c.depth * c.cols;
    // as many products per timed round as keep every subject busy for about as long
    const counts: Record<string, number> = {};
    for (const [subject, implementation] of Object.entries(subjects)) {
      await implementation.run(1);
      counts[subject] = Math.max(1, Math.round(ROUND / (await timed(() => implementation.run(1)))));
    }
    const rounds = await interleave(
      {
        webtinker: () => subjects.webtinker.run(counts.webtinker!),
        naive: () => subjects.naive.run(counts.naive!),
        'jax-js': () => subjects['jax-js'].run(counts['jax-js']!),
      },
      context.rounds,
    );
    const one = (subject: keyof typeof rounds): number[] => rounds[subject].map((t) => t / counts[subject]!);
    for (const subject of Object.keys(subjects) as (keyof typeof rounds)[]) {
      context.row(name, subject, flops / median(one(subject)) / 1e6, 'GFLOP/s', 'higher');
    }
    const toJax = medianRatio(one('jax-js'), one('webtinker'));
    context.row(name, 'ratio to jax-js', toJax, '×', 'higher');
    context.row(name, 'ratio to naive', medianRatio(one('naive'), one('webtinker')), '×', 'higher');
    context.progress(`${name}: ${toJax.toFixed(2)} × jax-js`);
    for (const s of Object.values(subjects)) s.dispose();
  }
  gpu.memory.dispose();
  gpu.device.destroy();
};

export default bench;
