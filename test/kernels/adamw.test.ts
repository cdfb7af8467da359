import { describe, expect, it } from 'vitest';
import { adamw, gradNorm, type AdamwValues } from '../../src/kernels/adamw/adamw';
import { expectClose, randomArray } from '../support/compare';
import { DEVICES, RUNNERS, type Run } from '../support/runners';
import cases from '../fixtures/adamw.json';

type F32 = Float32Array<ArrayBuffer>;
type Moments = Record<'params' | 'm' | 'v', F32>;

const vector = (data: F32) => ({ shape: ['P'], data });

async function normOf(grads: F32, run: Run): Promise<F32> {
  const { norm } = await run(gradNorm, { grads: vector(grads) }, {}, { values: { P: grads.length } });
  return norm as F32;
}

async function step(state: Moments, grads: F32, norm: F32, scalars: AdamwValues, run: Run): Promise<Moments> {
  const inputs = {
    params: vector(state.params),
    m: vector(state.m),
    v: vector(state.v),
    grads: vector(grads),
    norm: { shape: [1], data: norm },
  };
  const out = await run(adamw, inputs, {}, { values: { P: grads.length, ...scalars } });
  expect(out.grads.every((g) => g === 0)).toBe(true);
  return out as unknown as Moments;
}

const defaults: AdamwValues = {
  lr: 1e-3,
  beta1: 0.9,
  beta2: 0.95,
  eps: 1e-12,
  weight_decay: 0,
  clip: 0,
  bias1: 1 - 0.9,
  bias2: 1 - 0.95,
};

describe('gradNorm', () => {
  for (const { name, run } of RUNNERS) {
    for (const P of [1, 3, 4, 5, 63, 64, 65, 257, 4099, 100_003]) {
      it(`${P} gradients (${name})`, async () => {
        const grads = randomArray(P, P, 0.3);
        const expected = Math.sqrt(grads.reduce((s, g) => s + g * g, 0));
        const norm = await normOf(grads, run);
        expectClose(norm, [expected], { atol: 0, rtol: 1e-6 });
        expect(await normOf(grads, run)).toEqual(norm);
      });
    }

    it(`one NaN or infinity anywhere makes it not finite (${name})`, async () => {
      for (const bad of [NaN, Infinity, -Infinity]) {
        for (const at of [0, 1234, 5000]) {
          const grads = randomArray(5001, 1);
          grads[at] = bad;
          expect(Number.isFinite((await normOf(grads, run))[0])).toBe(false);
        }
      }
      expect(Number.isFinite((await normOf(new Float32Array(9).fill(3e38), run))[0])).toBe(false);
    });
  }
});

for (const { name, run } of DEVICES) {
  describe(`adamw on ${name}`, () => {
    for (const c of cases) {
      it(`ten steps as torch.optim.AdamW: ${c.P} parameters, decay ${c.weight_decay}, clip ${c.clip}`, async () => {
        let state: Moments = {
          params: Float32Array.from(c.start),
          m: new Float32Array(c.P),
          v: new Float32Array(c.P),
        };
        for (let t = 1; t <= 10; t++) {
          const grads = Float32Array.from(c.grads[t - 1]!);
          const norm = await normOf(grads, run);
          expectClose(norm, [c.norms[t - 1]!], { atol: 0, rtol: 1e-6 }, `norm ${t}`);
          const scalars = { ...c, bias1: 1 - c.beta1 ** t, bias2: 1 - c.beta2 ** t };
          const { lr, beta1, beta2, eps, weight_decay, clip, bias1, bias2 } = scalars;
          state = await step(
            state,
            grads,
            norm,
            { lr, beta1, beta2, eps, weight_decay, clip, bias1, bias2 },
            run,
          );
          // a parameter near 0 carries the rounding of the steps (≤ lr each) that led there
          expectClose(state.params, c.params[t - 1]!, { atol: 1e-6 * c.lr * t, rtol: 1e-6 }, `params ${t}`);
        }
        const scale = (x: readonly number[]): number => Math.max(...x.map(Math.abs));
        expectClose(state.m, c.m, { atol: 1e-7 * scale(c.m), rtol: 1e-6 }, 'm');
        expectClose(state.v, c.v, { atol: 1e-7 * scale(c.v), rtol: 1e-6 }, 'v');
      });
    }

    it('leaves everything but the gradients alone when the norm is not finite', async () => {
      const before = {
        params: randomArray(130, 1),
        m: randomArray(130, 2),
        v: randomArray(130, 3).map(Math.abs),
      };
      for (const norm of [NaN, Infinity]) {
        const after = await step(
          before,
          randomArray(130, 4),
          Float32Array.of(norm),
          {
            ...defaults,
            weight_decay: 0.1,
            clip: 1,
          },
          run,
        );
        expect({ params: after.params, m: after.m, v: after.v }).toEqual(before);
      }
    });

    it('a parameter without a gradient stays exactly where it is', async () => {
      const before = { params: randomArray(70, 1), m: new Float32Array(70), v: new Float32Array(70) };
      const after = await step(
        before,
        new Float32Array(70),
        new Float32Array(1),
        { ...defaults, clip: 1 },
        run,
      );
      expect({ params: after.params, m: after.m, v: after.v }).toEqual(before);
    });
  });
}
