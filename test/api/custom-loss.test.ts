/** Losses of the caller's own over the real engine: with their gradients, and differentiated by jax-js. */
import { nn, numpy as np } from '@jax-js/jax';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  AbortedError,
  BadRequestError,
  Datum,
  ModelInput,
  ServiceClient,
  TensorData,
  type AdamParamsInit,
  type CustomLossFn,
  type ForwardBackwardOutput,
  type TrainingClient,
} from '../../src/index';
import { jaxLoss, type JaxLossFn } from '../../src/jax';

const BASE_MODEL = '/test/fixtures/models/tied/';
let service: ServiceClient;
beforeAll(() => void (service = new ServiceClient()));
afterAll(() => service.dispose());

const datum = (tokens: number[], more: Record<string, number[]> = {}): Datum =>
  new Datum({
    modelInput: ModelInput.fromInts(tokens.slice(0, -1)),
    lossFnInputs: { target_tokens: tokens.slice(1), ...more },
  });

/** Two pairs for DPO: the chosen one first; weights mark the answer. */
const DATA = [
  datum([1, 5, 9, 13, 2], { weights: [0, 0, 1, 1] }),
  datum([1, 5, 9, 7, 30, 2], { weights: [0, 0, 1, 1, 1] }),
  datum([4, 4, 8, 15], { weights: [0, 1, 1] }),
  datum([4, 4, 21], { weights: [0, 1] }),
];

const sum = (x: ArrayLike<number>): number => Array.from(x).reduce((a, b) => a + b, 0);
const map = (x: ArrayLike<number>, f: (v: number, i: number) => number): Float32Array =>
  Float32Array.from(x, f);

// the documentation's first example
const squared: CustomLossFn = (_, logprobs) => {
  const loss = sum(logprobs.map(({ data }) => sum(map(data, (x) => x * x))));
  const gradients = logprobs.map(({ data }) => map(data, (x) => 2 * x));
  return { loss, gradients, metrics: { logprob_squared_loss: loss } };
};
const squaredJax: JaxLossFn = (_, logprobs) => {
  const loss = np.sum(np.square(np.concatenate(logprobs)));
  return { loss: loss.ref, metrics: { logprob_squared_loss: loss } };
};

// the documentation's second example; torch.var divides by n − 1
const variance: CustomLossFn = (_, logprobs) => {
  const all = logprobs.flatMap(({ data }) => [...data]);
  const mean = sum(all) / all.length;
  const loss = sum(all.map((x) => (x - mean) ** 2)) / (all.length - 1);
  const gradients = logprobs.map(({ data }) => map(data, (x) => (2 * (x - mean)) / (all.length - 1)));
  return { loss, gradients, metrics: { variance_loss: loss } };
};
const varianceJax: JaxLossFn = (_, logprobs) => {
  const loss = np.var_(np.concatenate(logprobs), null, { correction: 1 });
  return { loss: loss.ref, metrics: { variance_loss: loss } };
};

// Bradley–Terry over pairs of a chosen and a rejected answer, against a reference model's log-probabilities
const BETA = 0.3;
const REFERENCE = [-12, -9, -6, -8];
const pairs = [0, 2];
const dpo: CustomLossFn = (data, logprobs) => {
  const answer = (i: number): number =>
    sum(map(logprobs[i]!.data, (x, t) => x * data[i]!.lossFnInputs.weights!.data[t]!)) - REFERENCE[i]!;
  const margins = pairs.map((i) => BETA * (answer(i) - answer(i + 1)));
  const loss = sum(margins.map((m) => Math.log1p(Math.exp(-m)))) / pairs.length;
  const slopes = margins.map((m) => -BETA / (1 + Math.exp(m)) / pairs.length);
  const gradients = data.map(({ lossFnInputs }, i) =>
    map(lossFnInputs.weights!.data, (w) => (i % 2 === 0 ? w : -w) * slopes[i >> 1]!),
  );
  return { loss, gradients, metrics: { margin: sum(margins) / pairs.length } };
};
const dpoJax: JaxLossFn = (data, logprobs) => {
  const answer = (i: number): np.Array => {
    const weights = np.array([...data[i]!.lossFnInputs.weights!.data]);
    return np.sum(logprobs[i]!.mul(weights)).sub(REFERENCE[i]!);
  };
  const margins = np.stack(
    pairs.map((i) =>
      answer(i)
        .sub(answer(i + 1))
        .mul(BETA),
    ),
  );
  const margin = np.mean(margins.ref);
  return { loss: np.mean(nn.logSigmoid(margins).neg()), metrics: { margin } };
};

/** A model that has learned a little, so that neither factor of its adapter is zero. */
async function trained(): Promise<TrainingClient> {
  const model = await service.createLoraTrainingClient({ baseModel: BASE_MODEL, rank: 4, seed: 3 });
  for (let step = 0; step < 2; step++) {
    void model.forwardBackward(DATA, 'cross_entropy');
    void model.optimStep({ learningRate: 1e-2 });
  }
  return model;
}

/** Adam's first step with an epsilon far over the gradient: θ − (learningRate / eps)·g. */
const EPS = 1e8;
const descend = (learningRate: number): AdamParamsInit => ({ learningRate, eps: EPS, beta1: 0, beta2: 0 });

const gradNorm = async (model: TrainingClient): Promise<number> =>
  (await model.optimStep(descend(0))).metrics['grad_norm:mean']!;
const lossOf = ({ metrics }: ForwardBackwardOutput): number => metrics['loss:sum']!;
const rejection = (promise: PromiseLike<unknown>): Promise<unknown> =>
  Promise.resolve(promise).then(
    () => expect.fail('it resolved'),
    (error: unknown) => error,
  );

describe.each([
  ['squared log-probability', squared, squaredJax, 'logprob_squared_loss'],
  ['variance across sequences', variance, varianceJax, 'variance_loss'],
  ['direct preference over pairs', dpo, dpoJax, 'margin'],
] as const)('%s', (_, explicit, differentiable, metric) => {
  it('has the gradient of its own finite differences', async () => {
    await using model = await trained();
    const before = lossOf(await model.forwardBackwardCustom(DATA, explicit));
    const norm = await gradNorm(model);
    // a step that changes the loss by a small part of itself
    const step = (3e-4 * before) / norm ** 2;
    void model.forwardBackwardCustom(DATA, explicit);
    await model.optimStep(descend(step * EPS));
    const after = lossOf(await model.forwardBackwardCustom(DATA, explicit));
    expect((before - after) / (step * norm ** 2)).toBeCloseTo(1, 2);
  });

  it('is the same when jax-js differentiates it', async () => {
    await using a = await trained();
    await using b = await trained();
    const [one, two] = [
      await a.forwardBackwardCustom(DATA, explicit),
      await b.forwardBackwardCustom(DATA, jaxLoss(differentiable)),
    ];
    for (const name of ['loss:sum', 'surrogate_loss:sum', metric]) {
      expect(two.metrics[name]! / one.metrics[name]!).toBeCloseTo(1, 4);
    }
    expect((await gradNorm(b)) / (await gradNorm(a))).toBeCloseTo(1, 4);
  });
});

describe('a custom loss', () => {
  it('that is cross-entropy is cross-entropy, bit for bit', async () => {
    await using a = await trained();
    await using b = await trained();
    const nll: CustomLossFn = (data, logprobs) => {
      const weights = data.map(({ lossFnInputs }) => lossFnInputs.weights!.data);
      const loss = -sum(logprobs.map((lp, i) => sum(map(lp.data, (x, t) => x * weights[i]![t]!))));
      return { loss, gradients: weights.map((w) => map(w, (x) => -x)) };
    };
    const [own, built] = [a.forwardBackwardCustom(DATA, nll), b.forwardBackward(DATA, 'cross_entropy')];
    expect((await own).lossFnOutputs).toEqual((await built).lossFnOutputs);
    expect((await own).metrics['surrogate_loss:sum']).toBe(lossOf(await built));
    expect(lossOf(await own)).toBeCloseTo(lossOf(await built), 3);
    void a.optimStep({ learningRate: 1e-2 });
    void b.optimStep({ learningRate: 1e-2 });
    expect(await a.forward(DATA, 'cross_entropy')).toMatchObject({
      lossFnOutputs: (await b.forward(DATA, 'cross_entropy')).lossFnOutputs,
    });
  });

  it('runs as one: what is called meanwhile comes after both halves, in its order', async () => {
    await using slow = await trained();
    await slow.forwardBackwardCustom(DATA, squared);
    await slow.optimStep({ learningRate: 1e-2 });
    await slow.forwardBackwardCustom(DATA, variance);
    await slow.optimStep({ learningRate: 1e-2 });
    const expected = lossOf(await slow.forward(DATA, 'cross_entropy'));

    await using fast = await trained();
    const late: CustomLossFn = async (...args) => {
      await new Promise((done) => setTimeout(done, 50));
      return squared(...args);
    };
    void fast.forwardBackwardCustom(DATA, late);
    void fast.optimStep({ learningRate: 1e-2 });
    void fast.forwardBackwardCustom(DATA, variance);
    void fast.optimStep({ learningRate: 1e-2 });
    expect(lossOf(await fast.forward(DATA, 'cross_entropy'))).toBe(expected);
  });

  it('sees inputs of its own and needs no weights; the engine sees targets only', async () => {
    await using model = await trained();
    const reward = TensorData.fromArray([2, 3]);
    const data = [new Datum({ ...datum([4, 4, 21]), lossFnInputs: { target_tokens: [4, 21], reward } })];
    const seen: unknown[] = [];
    const output = await model.forwardBackwardCustom(data, (given, [logprobs]) => {
      seen.push(given, logprobs!.shape, logprobs!.dtype);
      return { loss: 1, gradients: [[0.5, -0.5]] };
    });
    expect(seen).toEqual([data, [2], 'float32']);
    expect(lossOf(output)).toBe(1);
    expect(await gradNorm(model)).toBeGreaterThan(0);
  });

  it('has several targets a token where the datum has: distillation of a distribution', async () => {
    await using a = await trained();
    await using b = await trained();
    const modelInput = ModelInput.fromInts([1, 5, 9]);
    const target_tokens = [[2, 3, 4], [30, 31, 32], [7, 8, 9]]; // prettier-ignore
    const teacher = TensorData.fromArray([[0.5, 0.25, 0.25], [1, 0, 0], [0.1, 0.2, 0.7]]); // prettier-ignore
    const own = [new Datum({ modelInput, lossFnInputs: { target_tokens, teacher } })];
    const distill = jaxLoss(([datum], [logprobs]) => {
      const { data, shape } = datum!.lossFnInputs.teacher!;
      const weights = np.array([...data]).reshape([...shape]);
      return { loss: np.sum(logprobs!.mul(weights)).neg() };
    });
    const built = [new Datum({ modelInput, lossFnInputs: { target_tokens, weights: teacher } })];
    const [one, two] = [
      await a.forwardBackwardCustom(own, distill),
      await b.forwardBackward(built, 'cross_entropy'),
    ];
    expect(one.lossFnOutputs[0]!.logprobs!.shape).toEqual([3, 3]);
    expect(one.lossFnOutputs).toEqual(two.lossFnOutputs);
    expect(lossOf(one)).toBeCloseTo(lossOf(two), 4);
    expect(await gradNorm(a)).toBe(await gradNorm(b));
  });

  it('takes sparse matrices of targets for what they are', async () => {
    await using a = await trained();
    await using b = await trained();
    const modelInput = ModelInput.fromInts([1, 5, 9, 13]);
    // padded with token 0 and weight 0, as a top-k distillation pads
    const targets = [2, 30, 7, 8].map((id) => [id, ...Array<number>(7).fill(0)]);
    const weights = targets.map(([, ...zeros]) => [1, ...zeros]);
    const sparse = [new Datum({ modelInput, lossFnInputs: { target_tokens: targets, weights } })];
    const dense = [
      new Datum({
        modelInput,
        lossFnInputs: {
          target_tokens: TensorData.fromArray(targets, 'int64'),
          weights: TensorData.fromArray(weights),
        },
      }),
    ];
    expect(sparse[0]!.lossFnInputs.target_tokens!.csr).toBeDefined();
    const [one, two] = [
      await a.forwardBackwardCustom(sparse, squared),
      await b.forwardBackwardCustom(dense, squared),
    ];
    expect(one).toEqual(two);
    expect(one.lossFnOutputs[0]!.logprobs!.shape).toEqual([4, 8]);
    expect(await gradNorm(a)).toBe(await gradNorm(b));
    expect((await a.forwardBackward(sparse, 'cross_entropy')).metrics['loss:sum']).toBe(
      (await b.forwardBackward(dense, 'cross_entropy')).metrics['loss:sum'],
    );
  });

  const answer = (gradients: unknown, loss: unknown = 1): CustomLossFn =>
    (() => ({ loss, gradients })) as never;
  it.each<[string, CustomLossFn, string]>([
    ['no gradients', answer(undefined), 'gradients: must be a list of 4'],
    ['a gradient too few', answer([[1, 1, 1, 1]]), 'gradients: must be a list of 4'],
    ['a gradient of another shape', answer(DATA.map(() => [1])), 'gradients[0]: must have the shape'],
    ['a typed array of another length', answer(DATA.map(() => new Float32Array(1))), 'gradients[0]: must'],
    [
      'NaN in a gradient',
      answer([[1, NaN, 1, 1], ...DATA.slice(1).map(() => [])]),
      'gradients[0][1]: must be finite',
    ],
    ['an infinite loss', answer([], Infinity), 'custom loss: must answer'],
    ['nothing', (() => undefined) as never, 'custom loss: must answer'],
    ['jax-js arrays that are no scalars', jaxLoss((_, [a]) => ({ loss: a! })), 'loss must be a scalar'],
  ])('that answers %s is a typed error, and changes nothing', async (_, lossFn, message) => {
    await using model = await trained();
    const bad = model.forwardBackwardCustom(DATA, lossFn);
    // called before the error is known, and run after it
    const norm = gradNorm(model);
    const error = await rejection(bad);
    expect(error).toBeInstanceOf(BadRequestError);
    expect((error as Error).message).toContain(message);
    expect(await norm).toBe(0);
  });

  it('that throws passes its error on; without targets, or of another input, it is not asked', async () => {
    await using model = await trained();
    const mine = new Error('mine');
    const throwing = model.forwardBackwardCustom(DATA, () => {
      throw mine;
    });
    expect(await rejection(throwing)).toBe(mine);
    const { modelInput } = DATA[0]!;
    const untargeted = model.forwardBackwardCustom([new Datum({ modelInput })], squared);
    expect((await rejection(untargeted)) as Error).toMatchObject({
      message: expect.stringContaining('target_tokens: required') as string,
    });
    const options = { lossTypeInput: 'logits' as 'logprobs' };
    expect(await rejection(model.forwardBackwardCustom(DATA, squared, options))).toBeInstanceOf(
      BadRequestError,
    );
    const plain = { modelInput, lossFnInputs: { target_tokens: [5, 9, 13, 2] } };
    for (const data of [[], undefined, DATA[0], [plain]]) {
      const refused = model.forwardBackwardCustom(data as never, squared);
      expect(await rejection(refused)).toBeInstanceOf(BadRequestError);
    }
  });

  it('given up between its halves accumulates nothing, and lets the others run', async () => {
    await using model = await trained();
    const controller = new AbortController();
    const given = model.forwardBackwardCustom(
      DATA,
      (...args) => {
        controller.abort('enough');
        return squared(...args);
      },
      { signal: controller.signal },
    );
    const norm = gradNorm(model);
    expect(await rejection(given)).toMatchObject({ name: 'AbortedError', cause: 'enough' });
    expect(await norm).toBe(0);
  });

  it('holds up what comes after it, also when another one in between fails or is given up', async () => {
    await using model = await trained();
    const slow: CustomLossFn = async (...args) => {
      await new Promise((done) => setTimeout(done, 50));
      return squared(...args);
    };
    const given = new AbortController();
    void model.forwardBackwardCustom(DATA, slow);
    const bad = model.forwardBackwardCustom([], squared);
    const dropped = model.forwardBackwardCustom(DATA, squared, { signal: given.signal });
    const norm = gradNorm(model);
    given.abort();
    expect(await rejection(bad)).toBeInstanceOf(BadRequestError);
    expect(await rejection(dropped)).toBeInstanceOf(AbortedError);
    expect(await norm).toBeGreaterThan(0);
  });

  it('is of the batch as it was when it was called', async () => {
    await using model = await trained();
    const batch = [...DATA];
    const sizes: number[] = [];
    const late: CustomLossFn = async (data, logprobs) => {
      await new Promise((done) => setTimeout(done, 20));
      sizes.push(data.length);
      return squared(data, logprobs);
    };
    const first = model.forwardBackwardCustom(batch, late);
    batch.length = 1;
    const second = model.forwardBackwardCustom(batch, late);
    batch.length = 0;
    expect((await first).lossFnOutputs).toHaveLength(4);
    expect((await second).lossFnOutputs).toHaveLength(1);
    expect(sizes).toEqual([4, 1]);
  });

  it('is not waited for when it is given up, even if it never answers', async () => {
    await using model = await trained();
    const given = new AbortController();
    const stuck: CustomLossFn = () => {
      given.abort('enough');
      return new Promise(() => undefined);
    };
    const custom = model.forwardBackwardCustom(DATA, stuck, { signal: given.signal });
    const norm = gradNorm(model);
    const late = new Promise((done) => setTimeout(done, 5000, 'still waiting'));
    expect(await Promise.race([rejection(custom), late])).toMatchObject({ cause: 'enough' });
    expect(await norm).toBe(0);
  });

  it('ends with its client', async () => {
    const model = await trained();
    const custom = model.forwardBackwardCustom(DATA, async (...args) => {
      await model.dispose();
      return squared(...args);
    });
    const waiting = model.optimStep();
    expect(await rejection(custom)).toBeInstanceOf(AbortedError);
    expect(await rejection(waiting)).toBeInstanceOf(AbortedError);
  });
});
