/** Cases of what training does beside the model: the losses, the guard against faults, norm and AdamW. */
import { adamw, gradNorm, type AdamwValues } from '../../kernels/adamw/adamw';
import { gradientGuard, lossFault } from '../../kernels/loss/guard';
import { LOSSES, type LossName } from '../../kernels/loss/index';
import { opCase, type Operand, type Subject } from '../case';
import { exact, near, ofExp, ofSum, type Check } from '../measure';
import type { F32, Random } from '../random';

/** What the terms of a loss are made of, by element. */
interface Terms {
  readonly lp: F32;
  readonly x: F32;
  readonly advantages: F32;
  readonly beta: number;
}

/** Per loss: the size of a term and of its derivative. */
const SIZES: Readonly<Record<LossName, (i: number, of: Terms) => readonly [number, number] | undefined>> = {
  // products: their own size is their magnitude
  cross_entropy: () => undefined,
  importance_sampling: () => undefined,
  ppo: () => undefined,
  cispo: () => undefined,
  dro: (i, { lp, x, advantages, beta }) => [
    0.5 * beta * x[i]! ** 2 + Math.abs(lp[i]! * advantages[i]!),
    beta * Math.abs(x[i]!) + Math.abs(advantages[i]!),
  ],
};

/**
 * lp − logprobs of each element: inside the bounds of clipping, exactly on them (a ratio of 1 is exact everywhere),
 * outside, and beyond f32. Never so near a bound that both sides of it are right.
 */
function logRatio(random: Random, bounds: readonly number[]): number {
  for (;;) {
    const x = random.pick([
      0,
      0.1 * random.normal(),
      random.normal(),
      random.within(-60, 60),
      random.within(80, 95),
      -100,
    ]);
    const clear = [...bounds.map(Math.log), Math.log(3.4028235e38)].every((b) => Math.abs(x - b) > 1e-3);
    if (x === 0 || clear) return x;
  }
}

function lossSubject(name: LossName): Subject {
  const loss = LOSSES[name];
  return {
    kind: 'op',
    name: loss.op.name,
    generate(random) {
      const C = random.size(260);
      const low = random.pick([0.8, 1, 0.5]);
      const high = random.pick([1.2, 1, 2].filter((h) => h >= low));
      const beta = random.pick([0, 0.1, 2]);
      const lp = Float32Array.from({ length: C }, () => -Math.abs(4 * random.normal()));
      const old = lp.map((p) => p - logRatio(random, [low, high]));
      const x = lp.map((p, i) => Math.fround(p - old[i]!));
      const advantages = random.values(C, random.pick(['normal', 'sparse', 'large']));
      const inputs: Record<string, Operand> = {};
      for (const { name: key } of loss.inputs) {
        inputs[key] = { shape: ['C'], data: key === 'logprobs' ? old : advantages };
      }
      const spoiled = random.chance(0.25);
      if (spoiled) random.spoil(lp, 1);
      const terms = { lp, x, advantages, beta };
      const check =
        (part: 0 | 1): Check =>
        (ours, oracle, all) =>
          near(
            (i) => ofExp(name === 'cross_entropy' || name === 'dro' ? 0 : x[i]!) + 4,
            (i) => SIZES[name](i, terms)?.[part] ?? Math.abs(oracle[i]!),
          )(ours, oracle, all);
      return opCase(loss.op, {
        about: { C, low, high, beta, spoiled },
        inputs: { ...inputs, logprob: { shape: ['C'], data: lp } },
        attrs: {},
        values: { C, clip_low_threshold: low, clip_high_threshold: high, beta },
        checks: { loss: check(0), d_logprob: check(1) },
      });
    },
  };
}

export const lossSubjects: readonly Subject[] = (Object.keys(LOSSES) as LossName[]).map(lossSubject);

export const lossFaultSubject: Subject = {
  kind: 'op',
  name: lossFault.name,
  generate(random) {
    const C = random.size(260);
    const [before, spoiled] = [random.int(0, 1), random.chance(0.5)];
    const loss = random.values(C, 'mixed', 1e6);
    if (spoiled) loss[random.int(0, C - 1)] = random.pick([NaN, Infinity, -Infinity]);
    return opCase(lossFault, {
      about: { C, before, spoiled },
      inputs: {
        loss: { shape: ['C'], data: loss },
        fault: { shape: [1], data: Uint32Array.of(before), state: true },
      },
      attrs: {},
      values: { C },
      checks: { fault: exact },
    });
  },
};

const vector = (data: F32): Operand => ({ shape: [data.length], data, state: true });

export const gradientGuardSubject: Subject = {
  kind: 'op',
  name: gradientGuard.name,
  generate(random) {
    const P = random.int(1, 9000);
    const [fault, has_saved, last] = [random.int(0, 1), random.int(0, 1), random.pick([0, 1, 1, 1])];
    const grads = random.values(P);
    if (fault) random.spoil(grads, 64);
    return opCase(gradientGuard, {
      about: { P, fault, has_saved, last },
      inputs: {
        grads: vector(grads),
        saved: vector(random.values(P)),
        fault: { shape: [1], data: Uint32Array.of(fault), state: true },
      },
      attrs: {},
      values: { has_saved, last },
      checks: { grads: exact },
    });
  },
};

export const gradNormSubject: Subject = {
  kind: 'op',
  name: gradNorm.name,
  generate(random) {
    const P = random.pick([random.size(130), random.int(1, 20_000)]);
    const spread = random.pick(['normal', 'small', 'large', 'sparse'] as const);
    const grads = random.values(P, spread);
    const spoiled = random.chance(0.25);
    if (spoiled) grads[random.int(0, P - 1)] = random.pick([NaN, Infinity, 3e38]);
    return opCase(gradNorm, {
      about: { P, spread, spoiled },
      inputs: { grads: vector(grads) },
      attrs: {},
      checks: { norm: near(ofSum(P)) },
    });
  },
};

export const adamwSubject: Subject = {
  kind: 'op',
  name: adamw.name,
  generate(random) {
    const P = 4 * random.size(260);
    const step = random.pick([1, 2, 10, 1000]);
    const run = {
      lr: random.pick([1e-4, 5e-3]),
      beta1: random.pick([0, 0.9]),
      beta2: random.pick([0.95, 0.999]),
      eps: random.pick([1e-8, 1e-12]),
      weight_decay: random.pick([0, 0.01]),
      clip: random.pick([0, 0, 1]),
    };
    const values: AdamwValues = { ...run, bias1: 1 - run.beta1 ** step, bias2: 1 - run.beta2 ** step };
    const grads = random.values(P, random.pick(['normal', 'small', 'large']));
    const params = random.values(P);
    const m = step === 1 ? new Float32Array(P) : random.values(P, 'normal', 0.1);
    const v = step === 1 ? new Float32Array(P) : random.values(P, 'normal', 0.1).map((x) => x * x);
    const norm = random.chance(0.15)
      ? random.pick([NaN, Infinity])
      : Math.sqrt(grads.reduce((sum, g) => sum + g * g, 0));
    const scale = values.clip > 0 && Number.isFinite(norm) ? Math.min(1, values.clip / (norm + 1e-6)) : 1;
    const ofM = (i: number): number =>
      Math.abs(m[i]!) + (1 - values.beta1) * (Math.abs(grads[i]! * scale) + Math.abs(m[i]!));
    const ofV = (i: number): number => values.beta2 * v[i]! + (1 - values.beta2) * (grads[i]! * scale) ** 2;
    const ofParams = (i: number): number =>
      Math.abs(params[i]!) +
      ((values.lr / values.bias1) * ofM(i)) / (Math.sqrt(ofV(i) / values.bias2) + values.eps);
    return opCase(adamw, {
      about: { P, step, ...run, norm: String(norm) },
      inputs: {
        params: vector(params),
        grads: vector(grads),
        m: vector(m),
        v: vector(v),
        norm: { shape: [1], data: Float32Array.of(norm) },
      },
      attrs: {},
      values: { ...values },
      checks: { grads: exact, m: near(8, ofM), v: near(12, ofV), params: near(24, ofParams) },
    });
  },
};
