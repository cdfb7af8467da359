/** Every loss on whole models against transformers + peft + torch.autograd; see `test/fixtures/losses`. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { RequestFailedError } from '../../src/api/contract/errors';
import type { AdamParamsPayload, DatumPayload, ForwardBackwardPayload } from '../../src/api/contract/types';
import type { Engine } from '../../src/engine/engine';
import { expectClose } from '../support/compare';
import { createModel, loadFixture, openEngine, rolesOf, type Fixture } from '../support/engine';
import { csr, float32, int64, loadLossCases, sumOf, worstError, type LossCase } from '../support/losses';

type Request = Pick<LossCase, 'lossFn' | 'config' | 'data'>;

const ADAM: AdamParamsPayload = {
  learningRate: 1e-2,
  beta1: 0.9,
  beta2: 0.95,
  eps: 1e-12,
  weightDecay: 0.01,
  gradClipNorm: 0,
};

const pass = (
  engine: Engine,
  modelId: string,
  { lossFn, config, data }: Request,
  forwardOnly = false,
): Promise<ForwardBackwardPayload> =>
  engine.forwardBackward({ modelId, data, lossFn, lossFnConfig: config, forwardOnly });

const logprobsOf = ({ lossFnOutputs }: ForwardBackwardPayload): Float32Array[] =>
  lossFnOutputs.map((o) => o['logprobs']!.data as Float32Array);

async function expectAsTorch(engine: Engine, fixture: Fixture, expected: LossCase): Promise<void> {
  const modelId = await createModel(engine, fixture);
  const out = await pass(engine, modelId, expected);
  logprobsOf(out).forEach((row, i) =>
    expectClose(row, expected.logprobs[i]!, { atol: 1e-4, rtol: 0 }, `datum ${i}`),
  );
  // the terms are of both signs: relative to what cancels, not to what is left
  expectClose([out.metrics['loss:sum']!], [expected.loss], { atol: 1e-3, rtol: 1e-5 }, 'loss:sum');
  const error = worstError(await engine.debugGetGradients(modelId), expected.gradients);
  expect(error, 'relative error of the gradients').toBeLessThan(1e-3);
  console.log(
    `${fixture.name} ${expected.name}: worst relative error of a gradient ${error.toExponential(1)}`,
  );

  const before = await engine.debugGetGradients(modelId);
  const forward = await pass(engine, modelId, expected, true);
  expect(forward.lossFnOutputs).toEqual(out.lossFnOutputs);
  expect(forward.metrics['loss:sum']).toBe(out.metrics['loss:sum']);
  expect(await engine.debugGetGradients(modelId)).toEqual(before);
  await engine.unloadModel(modelId);
}

const cases = { 'grouped-odd': await loadLossCases('grouped-odd'), tied: await loadLossCases('tied') };

for (const role of rolesOf({ kind: 'gpu', subgroups: false })) {
  describe(`as torch.autograd${role ? `, on a ${role.kind} adapter` : ''}`, () => {
    let engine: Engine;
    beforeAll(async () => {
      engine = await openEngine({ role });
    });
    afterAll(() => engine?.dispose());

    for (const name of ['grouped-odd', 'tied'] as const) {
      for (const [caseName, expected] of cases[name]) {
        // the kernels of other adapters once; the maps have no variants
        if (role && (name === 'grouped-odd' || caseName === 'cispo')) continue;
        it(`${name}: ${caseName}`, async () => {
          await expectAsTorch(engine, await loadFixture(name), expected);
        });
      }
    }
  });
}

describe('gradients', () => {
  let engine: Engine;
  let fixture: Fixture;
  const all = cases['grouped-odd'];
  const caseOf = (name: string): LossCase => all.get(name)!;
  beforeAll(async () => {
    engine = await openEngine();
    fixture = await loadFixture('grouped-odd');
  });
  afterAll(() => engine?.dispose());

  const gradientOf = async (...requests: Request[]) => {
    const modelId = await createModel(engine, fixture);
    const outs = await Promise.all(requests.map((request) => pass(engine, modelId, request)));
    const gradients = await engine.debugGetGradients(modelId);
    await engine.unloadModel(modelId);
    return { outs, gradients };
  };

  it('of different losses add up', async () => {
    const mixed = ['cross_entropy', 'ppo', 'dro', 'cispo_narrow', 'cross_entropy_many'].map(caseOf);
    const { outs, gradients } = await gradientOf(...mixed);
    outs.forEach((out, i) =>
      expectClose([out.metrics['loss:sum']!], [mixed[i]!.loss], { atol: 1e-3, rtol: 1e-5 }),
    );
    expect(worstError(gradients, sumOf(mixed.map((m) => m.gradients)))).toBeLessThan(1e-3);
  });

  it('are the slope of the loss that forward gives', async () => {
    const modelId = await createModel(engine, fixture);
    for (const name of ['cross_entropy_many', 'importance_sampling', 'dro']) {
      engine.debugSetAdapter(modelId, fixture.adapter);
      const before = await engine.debugGetGradients(modelId);
      await pass(engine, modelId, caseOf(name));
      const after = await engine.debugGetGradients(modelId);
      const gradient = sumOf([after, new Map([...before].map(([n, m]) => [n, m.map((x) => -x)]))]);
      let square = 0;
      for (const m of gradient.values()) for (const x of m) square += x * x;
      // a step along the gradient that changes the loss by about 0.1 each way
      const step = 0.1 / square;
      const lossAt = async (sign: number): Promise<number> => {
        const moved = [...fixture.adapter].map(
          ([n, m]) => [n, m.map((x, i) => x + sign * step * gradient.get(n)![i]!)] as const,
        );
        engine.debugSetAdapter(modelId, new Map(moved));
        return (await pass(engine, modelId, caseOf(name), true)).metrics['loss:sum']!;
      };
      const slope = ((await lossAt(1)) - (await lossAt(-1))) / (2 * step);
      expectClose([slope / square], [1], { atol: 0.02, rtol: 0 }, name);
    }
    await engine.unloadModel(modelId);
  });

  describe('of several targets a token', () => {
    const many = caseOf('cross_entropy_many');
    const rewrite = (
      change: (inputs: DatumPayload['lossFnInputs'], i: number) => DatumPayload['lossFnInputs'],
    ): Request => ({
      ...many,
      data: many.data.map((d, i) => ({ ...d, lossFnInputs: change(d.lossFnInputs, i) })),
    });
    const widthOf = (d: DatumPayload): number => d.lossFnInputs['target_tokens']!.shape[1]!;

    it('are the same dense and sparse, bit for bit', async () => {
      expect(new Set(many.data.map(widthOf)).size).toBeGreaterThan(2);
      const dense = await gradientOf(many);
      expect(dense.outs[0]!.lossFnOutputs.map((o) => o['logprobs']!.shape)).toEqual(
        many.data.map((d) => [d.tokens.length, widthOf(d)]),
      );
      for (const keys of [['target_tokens', 'weights'], ['target_tokens'], ['weights']]) {
        const sparse = rewrite((inputs, i) =>
          Object.fromEntries(
            Object.entries(inputs).map(([key, t]) => [key, keys.includes(key) && i !== 1 ? csr(t) : t]),
          ),
        );
        const { outs, gradients } = await gradientOf(sparse);
        expect(outs[0]!.lossFnOutputs).toEqual(dense.outs[0]!.lossFnOutputs);
        expect(outs[0]!.metrics).toEqual(dense.outs[0]!.metrics);
        expect(gradients).toEqual(dense.gradients);
      }
    });

    it('may stand beside datums of one target, which come back as they were given', async () => {
      const column = await gradientOf(many);
      const flat = rewrite((inputs, i) =>
        widthOf(many.data[i]!) > 1
          ? inputs
          : Object.fromEntries(
              Object.entries(inputs).map(([key, t]) => [key, { ...t, shape: [t.shape[0]!] }]),
            ),
      );
      const { outs, gradients } = await gradientOf(flat);
      const shapes = flat.data.map((d) => d.lossFnInputs['target_tokens']!.shape);
      expect(new Set(shapes.map((shape) => shape.length))).toEqual(new Set([1, 2]));
      expect(outs[0]!.lossFnOutputs.map((o) => o['logprobs']!.shape)).toEqual(shapes);
      expect(logprobsOf(outs[0]!)).toEqual(logprobsOf(column.outs[0]!));
      expect(gradients).toEqual(column.gradients);
    });

    it('are the sum of those of one target after the other', async () => {
      const together = await gradientOf(many);
      const most = Math.max(...many.data.map(widthOf));
      // what a datum lacks of the widest is id 0 with weight 0
      const column = (t: { data: ArrayLike<number>; shape: readonly number[] }, k: number): number[] =>
        Array.from({ length: t.shape[0]! }, (_, n) => (k < t.shape[1]! ? t.data[n * t.shape[1]! + k]! : 0));
      const single = Array.from({ length: most }, (_, k) =>
        rewrite((inputs) => ({
          target_tokens: int64(column(inputs['target_tokens']!, k)),
          weights: float32(column(inputs['weights']!, k)),
        })),
      );
      const apart = await gradientOf(...single);
      expect(worstError(together.gradients, sumOf([apart.gradients]))).toBeLessThan(1e-4);
      const loss = apart.outs.reduce((s, o) => s + o.metrics['loss:sum']!, 0);
      expectClose([together.outs[0]!.metrics['loss:sum']!], [loss], { atol: 0, rtol: 1e-6 });
      const rows = apart.outs.map(logprobsOf);
      logprobsOf(together.outs[0]!).forEach((cells, i) => {
        const K = widthOf(many.data[i]!);
        expectClose(
          cells,
          Array.from(cells, (_, c) => rows[c % K]![i]![Math.floor(c / K)]!),
          { atol: 1e-6, rtol: 1e-6 },
        );
      });
    });
  });

  it('of log-ratios of ±80 are finite, or their step is refused and changes nothing', async () => {
    const tokens = [...caseOf('ppo').data[2]!.tokens];
    const targets = caseOf('ppo').data[2]!.lossFnInputs['target_tokens']!;
    const steps: string[] = [];
    for (const lossFn of ['importance_sampling', 'ppo', 'cispo', 'dro'] as const) {
      for (const advantage of [1, -1]) {
        for (const logRatio of [80, -80]) {
          const modelId = await createModel(engine, fixture);
          const before = await engine.debugGetAdapter(modelId);
          const of = async (logprobs: readonly number[]): Promise<ForwardBackwardPayload> => {
            const lossFnInputs = {
              target_tokens: targets,
              logprobs: float32(logprobs),
              advantages: float32(tokens.map((_, t) => (t % 3 === 0 ? 0 : advantage))),
            };
            return pass(engine, modelId, { lossFn, config: {}, data: [{ tokens, lossFnInputs }] });
          };
          const onPolicy = logprobsOf(await of(tokens.map(() => -5)))[0]!;
          const out = await of([...onPolicy].map((lp) => lp - logRatio));
          expect(Number.isFinite(out.metrics['loss:sum'])).toBe(true);
          const step = await engine.optimStep({ modelId, adamParams: ADAM }).then(
            () => 'done',
            (error: unknown) => error,
          );
          const after = await engine.debugGetAdapter(modelId);
          if (step === 'done') {
            expect(after).not.toEqual(before);
            for (const m of after.values()) expect(m.every(Number.isFinite)).toBe(true);
          } else {
            expect(step).toBeInstanceOf(RequestFailedError);
            expect((step as Error).message).toMatch(/^NonFiniteInTensor/);
            expect(after).toEqual(before);
          }
          steps.push(`${lossFn} ${logRatio} ${advantage}: ${step === 'done' ? 'done' : 'refused'}`);
          await engine.unloadModel(modelId);
        }
      }
    }
    // only a ratio of e^80 that is not clipped is too large a gradient
    expect(steps.filter((s) => s.endsWith('refused'))).toEqual([
      'importance_sampling 80 1: refused',
      'importance_sampling 80 -1: refused',
      'ppo 80 -1: refused',
    ]);
  });

  describe('when a loss is not finite', () => {
    const good = caseOf('ppo');
    const first = good.data[0]!;
    const n = first.tokens.length;
    const overflowing = (lossFnInputs: DatumPayload['lossFnInputs']): DatumPayload => ({
      ...first,
      lossFnInputs: { ...first.lossFnInputs, ...lossFnInputs },
    });
    /** log-ratios over 88 at token 2 alone */
    const bad: Request = {
      ...good,
      data: [
        good.data[1]!,
        overflowing({
          logprobs: float32(Array.from({ length: n }, (_, t) => (t === 2 ? -200 : -3))),
          advantages: float32(Array.from({ length: n }, () => -1)),
        }),
      ],
    };

    const expectRefused = async (request: Promise<unknown>): Promise<void> => {
      const error: unknown = await request.then(
        () => undefined,
        (e: unknown) => e,
      );
      expect(error).toBeInstanceOf(RequestFailedError);
      expect((error as Error).message).toMatch(
        /^NonFiniteInTensor: the loss of data\[1\] at token 2 is not finite/,
      );
      expect((error as Error).message).toMatch(/logprobs -200, advantages -1/);
    };

    it('they are as they were: with others pending, without, and again', async () => {
      const modelId = await createModel(engine, fixture);
      const zero = await engine.debugGetGradients(modelId);
      await expectRefused(pass(engine, modelId, bad));
      expect(await engine.debugGetGradients(modelId)).toEqual(zero);
      await pass(engine, modelId, good);
      const pending = await engine.debugGetGradients(modelId);
      expect(pending).not.toEqual(zero);
      for (let i = 0; i < 2; i++) await expectRefused(pass(engine, modelId, bad));
      await expectRefused(pass(engine, modelId, bad, true));
      expect(await engine.debugGetGradients(modelId)).toEqual(pending);
      await engine.unloadModel(modelId);
    });

    it('the requests around it run as if it had not been made, even when all were made at once', async () => {
      const run = async (withBad: boolean) => {
        const modelId = await createModel(engine, fixture);
        const failed: Promise<void>[] = [];
        const fail = (): void => void (withBad && failed.push(expectRefused(pass(engine, modelId, bad))));
        const done: Promise<unknown>[] = [];
        for (let i = 0; i < 3; i++) {
          fail();
          done.push(pass(engine, modelId, good).then(logprobsOf));
          fail();
          done.push(engine.optimStep({ modelId, adamParams: ADAM }));
        }
        const results = [await Promise.all(done), await engine.debugGetAdapter(modelId)];
        await Promise.all(failed);
        await engine.unloadModel(modelId);
        return results;
      };
      expect(await run(true)).toEqual(await run(false));
    });

    it('nothing of a request of several batches stays', async () => {
      const modelId = await createModel(engine, fixture);
      await pass(engine, modelId, good);
      const pending = await engine.debugGetGradients(modelId);
      // more than the 8192 tokens of the largest batch, the bad one first
      const long: DatumPayload = {
        tokens: Array.from({ length: 128 }, (_, t) => t),
        lossFnInputs: {
          target_tokens: int64(Array.from({ length: 128 }, (_, t) => t)),
          logprobs: float32(Array<number>(128).fill(-5)),
          advantages: float32(Array<number>(128).fill(0.5)),
        },
      };
      const data = [good.data[1]!, bad.data[1]!, ...Array<DatumPayload>(64).fill(long)];
      await expectRefused(pass(engine, modelId, { ...bad, data }));
      expect(await engine.debugGetGradients(modelId)).toEqual(pending);
      await engine.unloadModel(modelId);
    });
  });
});
