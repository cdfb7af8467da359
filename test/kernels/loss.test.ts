/** Every loss against PyTorch's vectors (`test/fixtures/losses`), and against the formulas in f64 at the sizes kernels get wrong. */
import { describe, expect, it } from 'vitest';
import { LOSSES as SPECS, lossSettings } from '../../src/api/contract/losses';
import { LOSSES, type LossName } from '../../src/kernels/loss';
import { expectClose, randomArray } from '../support/compare';
import { DEVICES, type Run } from '../support/runners';
import maps from '../fixtures/losses/maps.json';

type Inputs = Readonly<Record<'logprob' | 'logprobs' | 'advantages' | 'weights', ArrayLike<number>>>;
type Settings = Readonly<Record<string, number>>;

/** Runs a loss over `inputs` on a device; settings not given take their defaults. */
const lossOn =
  (device: Run) =>
  async (
    lossFn: LossName,
    inputs: Inputs,
    given: Settings = {},
    { shape = ['C'], values = {} }: { shape?: (string | number)[]; values?: Settings } = {},
  ) => {
    const C = inputs.logprob.length;
    const tensor = (name: keyof Inputs) => ({ shape, data: Float32Array.from(inputs[name]) });
    const read = Object.fromEntries(
      LOSSES[lossFn].inputs.map(({ name }) => [name, tensor(name as keyof Inputs)]),
    );
    const { loss, d_logprob } = await device(
      LOSSES[lossFn].op,
      { ...read, logprob: tensor('logprob') },
      {},
      { values: { C, ...lossSettings(lossFn, given), ...values }, capacity: { C: C + 70 } },
    );
    return { loss, d_logprob };
  };

/** The documented formulas and their subgradients, in f64: [term, d term / d lp]. */
function reference(
  lossFn: LossName,
  { logprob, logprobs, advantages, weights }: Inputs,
  i: number,
  s: Settings,
) {
  const [lp, a, x] = [logprob[i]!, advantages[i]!, Math.fround(logprob[i]! - logprobs[i]!)];
  const ratio = Math.exp(x);
  const [low, high] = [s['clip_low_threshold']!, s['clip_high_threshold']!];
  const clipped = Math.min(Math.max(ratio, low), high);
  switch (lossFn) {
    case 'cross_entropy':
      return [-weights[i]! * lp, -weights[i]!];
    case 'importance_sampling':
      return a === 0 ? [0, 0] : [-ratio * a, -ratio * a];
    case 'ppo':
      if (a > 0) return ratio <= high ? [-Math.min(ratio * a, clipped * a), -ratio * a] : [-high * a, 0];
      if (a < 0) return ratio >= low ? [-ratio * a, -ratio * a] : [-low * a, 0];
      return [0, 0];
    case 'cispo':
      return [-clipped * lp * a, -clipped * a];
    case 'dro':
      return [-(lp * a - 0.5 * s['beta']! * x * x), -(a - s['beta']! * x)];
  }
}

const NAMES = Object.keys(LOSSES) as LossName[];

it('the kernels and the list that clients check name the same losses, inputs and settings', () => {
  expect(NAMES.sort()).toEqual(Object.keys(SPECS).sort());
  for (const name of NAMES) {
    const inputs = LOSSES[name].inputs.map((i) => i.name);
    expect(['target_tokens', ...inputs].sort()).toEqual(Object.keys(SPECS[name].inputs).sort());
  }
});

for (const { name: device, run: onDevice } of DEVICES) {
  const run = lossOn(onDevice);

  describe(`on ${device}`, () => {
    describe('as torch.autograd, on and around every bound, with log-ratios of ±80', () => {
      for (const [name, { lossFn, config, loss, dLogprob }] of Object.entries(maps.cases)) {
        it(name, async () => {
          const out = await run(lossFn as LossName, maps, config);
          // WGSL allows exp 3 + 2·|x| units in the last place: 2e-5 at 80
          expectClose(out.loss, loss, { atol: 1e-6, rtol: 4e-5 }, 'loss');
          expectClose(out.d_logprob, dLogprob, { atol: 1e-6, rtol: 4e-5 }, 'dL/dlogprob');
        });
      }

      it('where the gradient is exactly zero for torch it is here', async () => {
        for (const { lossFn, config, dLogprob } of Object.values(maps.cases)) {
          const { d_logprob } = await run(lossFn as LossName, maps, config);
          dLogprob.forEach((d, i) => expect(d_logprob[i] === 0, `${lossFn}[${i}]: ${d}`).toBe(d === 0));
        }
      });
    });

    for (const lossFn of NAMES) {
      describe(lossFn, () => {
        for (const C of [1, 63, 64, 65, 1000]) {
          it(`${C} elements`, async () => {
            const logprob = randomArray(C, 1, 5).map((x) => -Math.abs(x));
            const inputs = {
              logprob,
              logprobs: randomArray(C, 2).map((x, i) => logprob[i]! - x),
              advantages: randomArray(C, 3).map((x, i) => (i % 4 === 0 ? 0 : x)),
              weights: randomArray(C, 4).map((x, i) => (i % 4 === 0 ? 0 : x)),
            };
            const settings = lossSettings(lossFn, {});
            const out = await run(lossFn, inputs);
            const expected = Array.from({ length: C }, (_, i) => reference(lossFn, inputs, i, settings));
            const close = { atol: 2e-6, rtol: 2e-6 };
            expectClose(
              out.loss,
              expected.map(([term]) => term!),
              close,
              'loss',
            );
            expectClose(
              out.d_logprob,
              expected.map(([, d]) => d!),
              close,
              'dL/dlogprob',
            );
          });
        }

        it('a matrix of elements, as those of several targets a token', async () => {
          const cells = (seed: number) => randomArray(35, seed);
          const inputs = { logprob: cells(1), logprobs: cells(2), advantages: cells(3), weights: cells(4) };
          const flat = await run(lossFn, inputs);
          const matrix = await run(lossFn, inputs, {}, { shape: ['C', 5], values: { C: 7 } });
          expect(matrix).toEqual(flat);
        });

        it('a log-probability that is not finite makes its element NaN, and no other', async () => {
          const logprob = [-1, NaN, -2, Infinity, -Infinity, -3];
          const ones = logprob.map(() => 1);
          const bad = logprob.map((x) => !Number.isFinite(x));
          const out = await run(lossFn, { logprob, logprobs: ones, advantages: ones, weights: ones });
          expect(Array.from(out.loss, Number.isNaN)).toEqual(bad);
          expect(Array.from(out.d_logprob, Number.isNaN)).toEqual(bad);
        });
      });
    }

    describe('ratios beyond float32', () => {
      const logprob = [-1, -1, -1, -1];
      const inputs = {
        logprob,
        logprobs: [-101, -101, -101, -101],
        advantages: [2, -2, 0, 1e-30],
        weights: logprob,
      };

      it('are NaN where the loss depends on them, and 0 where the advantage is', async () => {
        const importance = await run('importance_sampling', inputs);
        expect(Array.from(importance.loss, Number.isNaN)).toEqual([true, true, false, true]);
        expect([importance.loss[2], importance.d_logprob[2]]).toEqual([0, 0]);
        const { loss, d_logprob } = await run('ppo', inputs);
        expectClose(loss.slice(0, 1), [-2.4]);
        expect(d_logprob[0]).toBe(0);
        expect(Array.from(d_logprob, Number.isNaN)).toEqual([false, true, false, false]);
      });

      it('are clipped as any other', async () => {
        const { loss, d_logprob } = await run('cispo', inputs);
        expectClose(loss, [8, -8, 0, 4e-30], { atol: 0, rtol: 1e-6 });
        expectClose(d_logprob, [-8, 8, 0, -4e-30], { atol: 0, rtol: 1e-6 });
      });

      it('a product beyond float32 is NaN', async () => {
        const near = { ...inputs, logprobs: [-81, -81, -81, -81], advantages: [1e6, -1e6, 0, 1] };
        const { loss } = await run('importance_sampling', near);
        expect(Array.from(loss, Number.isNaN)).toEqual([true, true, false, false]);
        expectClose(loss.slice(3), [-Math.exp(80)], { atol: 0, rtol: 4e-5 });
      });
    });
  });
}
