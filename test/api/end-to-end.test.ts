/** The public API over the real engine in its worker, on the embedded model. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as tinker from '../../src/index';
import { openEngine } from '../support/engine';
import { Datum, ModelInput, ServiceClient, type ProgressEvent, type TrainingClient } from '../../src/index';

const events: ProgressEvent[] = [];
let service: ServiceClient;
let data: Datum[];
let prompt: ModelInput;

/** Completions carry the loss, prompts do not; targets are the tokens shifted by one. */
function example(tokenizer: tinker.Tokenizer, input: string, output: string): Datum {
  const head = tokenizer.encode(`English: ${input}\nPig Latin:`);
  const tail = tokenizer.encode(` ${output}\n\n`);
  const tokens = [...head, ...tail];
  return new Datum({
    modelInput: ModelInput.fromInts(tokens.slice(0, -1)),
    lossFnInputs: {
      target_tokens: tokens.slice(1),
      weights: tokens.slice(1).map((_, i) => +(i >= head.length - 1)),
    },
  });
}

const newModel = (seed = 7): Promise<TrainingClient> => service.createLoraTrainingClient({ rank: 4, seed });
const lossOf = ({ metrics }: tinker.ForwardBackwardOutput): number => metrics['loss:sum']!;

const rejection = (promise: PromiseLike<unknown>): Promise<unknown> =>
  Promise.resolve(promise).then(
    () => expect.fail('it resolved'),
    (error: unknown) => error,
  );

beforeAll(async () => {
  service = new ServiceClient({ device: 'webgpu', onProgress: (event) => void events.push(event) });
  const model = await newModel();
  const tokenizer = await model.getTokenizer();
  data = [
    example(tokenizer, 'banana split', 'anana-bay plit-say'),
    example(tokenizer, 'quantum physics', 'uantum-qay ysics-phay'),
    example(tokenizer, 'pickle jar', 'ickle-pay ar-jay'),
  ];
  prompt = ModelInput.fromInts(tokenizer.encode('English: pickle jar\nPig Latin:'));
  await model.dispose();
});
afterAll(() => service.dispose());

describe('a model', () => {
  it('is announced, loaded with progress, and described', async () => {
    const { supportedModels, device } = await service.getServerCapabilities();
    expect(supportedModels).toContainEqual({
      modelName: 'webtinker/pocket',
      maxContextLength: 512,
      // the numbers in model.safetensors
      parameters: 1215104,
      vocabSize: 264,
    });
    expect(device.kind).toBe('webgpu');
    expect(events.length).toBeGreaterThan(0);
    await using model = await newModel();
    expect(await model.getInfo()).toMatchObject({
      modelId: model.modelId,
      isLora: true,
      loraRank: 4,
      modelName: 'webtinker/pocket',
    });
  });

  it('gives each datum its logprobs and the loss as their weighted sum', async () => {
    await using model = await newModel();
    const { lossFnOutputs, metrics } = await model.forward(data, 'cross_entropy');
    let loss = 0;
    data.forEach(({ modelInput, lossFnInputs }, i) => {
      const { logprobs } = lossFnOutputs[i]!;
      expect(logprobs!.shape).toEqual([modelInput.length]);
      logprobs!.data.forEach((lp, t) => (loss -= lp * lossFnInputs.weights!.data[t]!));
    });
    expect(metrics['loss:sum']).toBeCloseTo(loss, 2);
  });

  it('learns, and samples from what it learned', async () => {
    await using model = await newModel();
    const losses: number[] = [];
    for (let step = 0; step < 6; step++) {
      const output = model.forwardBackward(data, 'cross_entropy');
      const stepped = model.optimStep({ learningRate: 5e-3 });
      losses.push(lossOf(await output));
      await stepped;
    }
    expect(losses.at(-1)).toBeLessThan(losses[0]! / 2);
    await using sampler = await model.saveWeightsAndGetSamplingClient();
    expect(await sampler.getBaseModel()).toBe('webtinker/pocket');
    const { sequences } = await sampler.sample({
      prompt,
      numSamples: 3,
      samplingParams: { maxTokens: 5, seed: 1 },
    });
    expect(sequences.length).toBe(3);
    for (const { tokens, logprobs, stopReason } of sequences) {
      expect(tokens.length).toBe(logprobs.length);
      expect(['stop', 'length']).toContain(stopReason);
    }
    const text = ModelInput.fromInts([...prompt.toInts(), ...sequences[0]!.tokens]);
    const again = await sampler.computeLogprobs(text);
    expect(again.length).toBe(text.length);
    expect(again[0]).toBeNull();
    sequences[0]!.logprobs.forEach((lp, i) => expect(again[prompt.length + i]).toBeCloseTo(lp, 3));
  });
});

describe('the end of a text', () => {
  it('ends a sample, unless nothing is to', async () => {
    await using sampler = await service.createSamplingClient({ baseModel: '/test/fixtures/models/tied/' });
    const sample = async (stop?: string[]): Promise<readonly tinker.SampledSequence[]> => {
      const samplingParams = { maxTokens: 50, seed: 1, ...(stop && { stop }) };
      const options = { prompt: ModelInput.fromInts([1, 5, 9]), numSamples: 16, samplingParams };
      return (await sampler.sample(options)).sequences;
    };
    const sequences = await sample();
    const at = sequences.findIndex(({ stopReason }) => stopReason === 'stop');
    expect(sequences[at]!.tokens.at(-1)).toBe(38); // its eos_token_id
    expect(sequences[at]!.tokens.length).toBeLessThan(50);
    const endless = await sample([]);
    expect(endless.every(({ tokens, stopReason }) => tokens.length === 50 && stopReason === 'length')).toBe(
      true,
    );
    expect(endless[at]!.tokens.slice(0, sequences[at]!.tokens.length)).toEqual(sequences[at]!.tokens);
  });
});

describe('calls in flight', () => {
  it('run in call order: the same numbers as one at a time', async () => {
    const adam = { learningRate: 1e-2 };
    await using slow = await newModel();
    const expected: number[] = [];
    for (const batch of [data, data.slice(0, 1), data]) {
      expected.push(lossOf(await slow.forwardBackward(batch, 'cross_entropy')));
      await slow.optimStep(adam);
    }
    await using fast = await newModel();
    const outputs = [data, data.slice(0, 1), data].map((batch) => {
      const output = fast.forwardBackward(batch, 'cross_entropy');
      void fast.optimStep(adam);
      return output;
    });
    // the last one asked first
    const last = lossOf(await outputs[2]!);
    expect([lossOf(await outputs[0]!), lossOf(await outputs[1]!), last]).toEqual(expected);
    expect(new Set(expected).size).toBe(3);
  });

  it('of several models do not mix', async () => {
    await using a = await newModel(1);
    await using b = await newModel(1);
    const runs = [a, b].map((model) => {
      const first = model.forwardBackward(data, 'cross_entropy');
      void model.optimStep({ learningRate: 1e-2 });
      return [first, model.forward(data, 'cross_entropy')] as const;
    });
    const [fromA, fromB] = await Promise.all(runs.map(async ([x, y]) => [lossOf(await x), lossOf(await y)]));
    expect(fromA).toEqual(fromB);
    expect(fromA![1]).not.toBe(fromA![0]);
  });

  it('take a snapshot at their place, which later training does not change', async () => {
    await using model = await newModel();
    const trained = (): void => {
      void model.forwardBackward(data, 'cross_entropy');
      void model.optimStep({ learningRate: 1e-2 });
    };
    trained();
    const between = model.saveWeightsAndGetSamplingClient();
    trained();
    const after = model.saveWeightsAndGetSamplingClient();
    const logprobs = async (sampler: tinker.SamplingClient): Promise<(number | null)[]> =>
      sampler.computeLogprobs(prompt);
    const first = await logprobs(await between);
    expect(await logprobs(await after)).not.toEqual(first);

    await using other = await newModel();
    void other.forwardBackward(data, 'cross_entropy');
    await other.optimStep({ learningRate: 1e-2 });
    expect(await logprobs(await other.saveWeightsAndGetSamplingClient())).toEqual(first);
  });

  it('need not be waited for: a timeout leaves the request as it is', async () => {
    await using model = await newModel();
    const future = model.forwardBackward(data, 'cross_entropy');
    expect(future.requestId).toBe(`${model.modelId}:1`);
    expect(await rejection(future.result({ timeoutMs: 0 }))).toBeInstanceOf(tinker.APITimeoutError);
    expect(lossOf(await future)).toBeGreaterThan(0);
  });
});

describe('bad input', () => {
  /** `data[0]` with other tokens, targets or weights. */
  const changed = (changes: { tokens?: number[]; target_tokens?: number[]; weights?: number[] }): Datum[] => {
    const { modelInput, lossFnInputs } = data[0]!;
    const { tokens, ...inputs } = changes;
    return [
      new Datum({
        modelInput: tokens ? ModelInput.fromInts(tokens) : modelInput,
        lossFnInputs: { ...lossFnInputs, ...inputs },
      }),
    ];
  };
  const fill = (x: number, n = data[0]!.modelInput.length): number[] => Array<number>(n).fill(x);
  type Call = (model: TrainingClient) => PromiseLike<unknown>;
  const train =
    (bad: () => Datum[], loss = 'cross_entropy'): Call =>
    (model) =>
      model.forwardBackward(bad(), loss as tinker.LossFnName);

  it.each<[string, Call, string]>([
    ['empty data', train(() => []), 'data: '],
    ['an unknown loss', train(() => data, 'mse'), 'loss_fn: unknown loss "mse"'],
    [
      'a token out of the vocabulary',
      train(() => changed({ tokens: fill(264) })),
      'data[0].model_input[0]: token id 264',
    ],
    [
      'a target out of the vocabulary',
      train(() => changed({ target_tokens: fill(9999) })),
      'data[0].loss_fn_inputs.target_tokens[0]',
    ],
    [
      'lengths that differ',
      train(() => changed({ weights: [1] })),
      'data[0].loss_fn_inputs.weights: must have shape',
    ],
    [
      'NaN weights',
      train(() => changed({ weights: fill(NaN) })),
      'data[0].loss_fn_inputs.weights[0]: must be finite, got NaN',
    ],
    [
      'a sequence over the context',
      train(() => changed({ tokens: fill(1, 513), target_tokens: fill(1, 513), weights: fill(1, 513) })),
      'data[0].model_input: 513 tokens',
    ],
    [
      'an infinite learning rate',
      (model) => model.optimStep({ learningRate: Infinity }),
      'adam_params.learning_rate: must be finite',
    ],
    ['a beta of 1', (model) => model.optimStep({ beta2: 1 }), 'adam_params.beta2'],
  ])('%s is a typed error that names the field, and changes nothing', async (_, call, message) => {
    await using model = await newModel();
    const before = model.forwardBackward(data, 'cross_entropy');
    const bad = call(model);
    const step = model.optimStep({ learningRate: 1e-2 });
    const after = model.forward(data, 'cross_entropy');
    const error = (await rejection(bad)) as tinker.BadRequestError;
    expect(error).toBeInstanceOf(tinker.BadRequestError);
    expect(error.message).toContain(message);
    await Promise.all([before, step]);

    await using good = await newModel();
    void good.forwardBackward(data, 'cross_entropy');
    void good.optimStep({ learningRate: 1e-2 });
    expect(lossOf(await after)).toBe(lossOf(await good.forward(data, 'cross_entropy')));
  });

  it('trains a model named by the URL of its folder, and says so', async () => {
    const training = await service.createLoraTrainingClient({
      baseModel: '/test/fixtures/models/tied/',
      rank: 4,
    });
    expect((await training.getInfo()).modelName).toBe('/test/fixtures/models/tied/');
    await training.dispose();
  });

  it.each<[string, () => PromiseLike<unknown>, new (m: string) => Error, string]>([
    [
      'rank 0',
      () => service.createLoraTrainingClient({ rank: 0 }),
      tinker.BadRequestError,
      'lora_config.rank must be positive',
    ],
    ['rank 3', () => service.createLoraTrainingClient({ rank: 3 }), tinker.BadRequestError, 'power of 2'],
    [
      'no part to train',
      () => service.createLoraTrainingClient({ trainMlp: false, trainAttn: false, trainUnembed: false }),
      tinker.BadRequestError,
      'At least one of',
    ],
    [
      'an unknown model',
      () => service.createLoraTrainingClient({ baseModel: 'no/such' }),
      tinker.NotFoundError,
      'no/such',
    ],
    [
      'an unknown base of a sampler',
      () => service.createSamplingClient({ baseModel: 'no/such' }),
      tinker.NotFoundError,
      'no/such',
    ],
    [
      'a sampler of nothing',
      () => service.createSamplingClient({}),
      tinker.BadRequestError,
      'base_model is required',
    ],
    [
      'a path that is none',
      () => service.createSamplingClient({ modelPath: 'tinker://weights/x' }),
      tinker.BadRequestError,
      'model_path: expected tinker://RUN/weights/NAME',
    ],
  ])('%s makes no client', async (_, call, Class, message) => {
    const error = await rejection(call());
    expect(error).toBeInstanceOf(Class);
    expect((error as Error).message).toContain(message);
  });

  it.each<[string, object, string]>([
    [
      'too many tokens',
      { maxTokens: 500 },
      "Prompt length plus max_tokens exceeds the model's context window: ",
    ],
    ['no tokens', { maxTokens: 0 }, 'sampling_params.max_tokens'],
    ['a negative temperature', { maxTokens: 1, temperature: -1 }, 'sampling_params.temperature'],
    ['top-k 0', { maxTokens: 1, topK: 0 }, 'sampling_params.top_k'],
    ['an unknown setting', { max_tokens: 1 }, 'SamplingParams.max_tokens'],
  ])('%s are not sampled', async (_, samplingParams, message) => {
    await using sampler = await service.createSamplingClient({ baseModel: 'webtinker/pocket' });
    const error = await rejection(sampler.sample({ prompt, samplingParams }));
    expect(error).toBeInstanceOf(tinker.BadRequestError);
    expect((error as Error).message).toContain(message);
    expect((await sampler.sample({ prompt, samplingParams: { maxTokens: 1 } })).sequences.length).toBe(1);
  });

  it('of ServiceClient is refused at once', () => {
    expect(() => new ServiceClient({ baseUrl: 'https://example.org' })).toThrow(tinker.UnsupportedError);
    expect(() => new ServiceClient({ device: 'abacus' as 'webgpu' })).toThrow(tinker.UnsupportedError);
  });
});

describe('the end', () => {
  it('of a client frees its memory and rejects later calls', async () => {
    const before = await service.stats();
    const model = await newModel();
    await model.forwardBackward(data, 'cross_entropy');
    expect(await service.stats()).toMatchObject({ models: before.models + 1 });
    await model.dispose();
    await model.dispose();
    expect(await rejection(model.optimStep())).toBeInstanceOf(tinker.AbortedError);
    expect(await service.stats()).toMatchObject({ models: before.models, bytes: before.bytes });
  });

  it('of a service on an engine of your own frees its clients, and leaves the engine to others', async () => {
    const backend = await openEngine();
    const [mine, other] = [new ServiceClient({ backend }), new ServiceClient({ backend })];
    const make = (of: ServiceClient, rank: number): Promise<TrainingClient> =>
      of.createLoraTrainingClient({ baseModel: 'tied', rank, seed: 1 });
    const kept = await make(other, 2);
    const before = await other.stats();
    const model = await make(mine, 4);
    const sampler = await model.saveWeightsAndGetSamplingClient();
    await mine.createSamplingClient({ baseModel: 'tied' });
    expect(await other.stats()).toMatchObject({ models: 2, samplers: 2 });
    await mine.dispose();
    const { models, samplers, bytes } = await other.stats();
    expect({ models, samplers }).toEqual({ models: 1, samplers: 0 });
    expect(bytes).toBe(before.bytes);
    expect(await rejection(sampler.computeLogprobs(ModelInput.fromInts([1, 2])))).toBeInstanceOf(
      tinker.AbortedError,
    );
    expect((await kept.optimStep()).metrics['grad_norm:mean']).toBe(0);
    await backend.dispose();
  });

  it('of such a service also frees the clients that are being made', async () => {
    const backend = await openEngine();
    const [mine, other] = [new ServiceClient({ backend }), new ServiceClient({ backend })];
    const model = await mine.createLoraTrainingClient({ baseModel: 'tied', rank: 2 });
    const making = [
      mine.createLoraTrainingClient({ baseModel: 'tied', rank: 2 }),
      mine.createSamplingClient({ baseModel: 'tied' }),
      model.createSamplingClient('tinker://none/sampler_weights/none'),
    ].map(rejection);
    await mine.dispose();
    const [trained, sampler, missing] = await Promise.all(making);
    for (const error of [trained, sampler]) expect(error).toBeInstanceOf(tinker.AbortedError);
    expect(missing).toBeInstanceOf(tinker.NotFoundError);
    expect(await other.stats()).toMatchObject({ models: 0, samplers: 0 });
    await backend.dispose();
  });

  it('of the engine is the end of its clients, which can be disposed still', async () => {
    const backend = await openEngine();
    for (const own of [new ServiceClient({ backend }), new ServiceClient()]) {
      const model = await own.createLoraTrainingClient({ rank: 1 });
      const sampler = await model.saveWeightsAndGetSamplingClient();
      await backend.dispose();
      await own.dispose();
      await Promise.all([model.dispose(), sampler.dispose()]);
    }
  });

  it('of the service rejects what is pending and what comes', async () => {
    const own = new ServiceClient();
    const model = await own.createLoraTrainingClient({ rank: 1 });
    const pending = [model.forwardBackward(data, 'cross_entropy'), model.optimStep()].map(rejection);
    await own.dispose();
    for (const error of await Promise.all(pending)) expect(error).toBeInstanceOf(tinker.AbortedError);
    expect(await rejection(model.optimStep())).toBeInstanceOf(tinker.AbortedError);
    expect(await rejection(own.getServerCapabilities())).toBeInstanceOf(tinker.AbortedError);
  });
});
