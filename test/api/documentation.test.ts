/**
 * The code of Tinker's documentation, page by page, as docs/python-to-typescript.md says to write it; on the
 * embedded model, over the real engine in its worker.
 */
import { numpy as np } from '@jax-js/jax';
import { afterAll, beforeAll, expect, test } from 'vitest';
import * as tinker from '../../src/index';
import { jaxLoss } from '../../src/jax';

const types = tinker;
const BASE_MODEL = 'webtinker/pocket';

let serviceClient: tinker.ServiceClient;
let trainingClient: tinker.TrainingClient;
let samplingClient: tinker.SamplingClient;
let restClient: tinker.RestClient;
let tokenizer: tinker.Tokenizer;

beforeAll(async () => {
  serviceClient = new tinker.ServiceClient();
  trainingClient = await serviceClient.createLoraTrainingClient({ baseModel: BASE_MODEL, rank: 8, seed: 1 });
  samplingClient = await serviceClient.createSamplingClient({ baseModel: BASE_MODEL });
  restClient = serviceClient.createRestClient();
  tokenizer = await trainingClient.getTokenizer();
});
afterAll(() => serviceClient.dispose());

const modelInput = (text: string): tinker.ModelInput => types.ModelInput.fromInts(tokenizer.encode(text));
const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
const dot = (a: readonly number[], b: readonly number[]): number => sum(a.map((x, i) => x * b[i]!));

const rejection = (promise: PromiseLike<unknown>): Promise<unknown> =>
  Promise.resolve(promise).then(
    () => expect.fail('it resolved'),
    (error: unknown) => error,
  );

function processExample(
  example: { input: string; output: string },
  tokenizer: tinker.Tokenizer,
): tinker.Datum {
  const prompt = `English: ${example.input}\nPig Latin:`;
  const promptTokens = tokenizer.encode(prompt, { add_special_tokens: true });
  const promptWeights = promptTokens.map(() => 0);
  const completionTokens = tokenizer.encode(` ${example.output}\n\n`, { add_special_tokens: false });
  const completionWeights = completionTokens.map(() => 1);
  const tokens = [...promptTokens, ...completionTokens];
  const weights = [...promptWeights, ...completionWeights].slice(1);
  return new types.Datum({
    modelInput: types.ModelInput.fromInts(tokens.slice(0, -1)),
    lossFnInputs: { weights, target_tokens: tokens.slice(1) },
  });
}

const processedExamples = (): tinker.Datum[] =>
  [
    { input: 'banana split', output: 'anana-bay plit-say' },
    { input: 'quantum physics', output: 'uantum-qay ysics-phay' },
  ].map((example) => processExample(example, tokenizer));

test('quick start', async () => {
  const { supportedModels } = await serviceClient.getServerCapabilities();
  expect(supportedModels.map((item) => item.modelName)).toContain(BASE_MODEL);

  const examples = processedExamples();
  const datum0 = examples[0]!;
  const inputs = datum0.modelInput.toInts();
  const targets = datum0.lossFnInputs.target_tokens!.toArray();
  const weights = datum0.lossFnInputs.weights!.toArray();
  const rows = inputs.map((token, i) => [
    tokenizer.decode([token]),
    tokenizer.decode([targets[i]!]),
    weights[i],
  ]);
  expect(rows[0]).toEqual(['E', 'n', 0]);
  expect(rows.at(-1)).toEqual(['\n', '\n', 1]);

  const losses: number[] = [];
  for (let step = 0; step < 6; step++) {
    const fwdbwdFuture = trainingClient.forwardBackward(examples, 'cross_entropy');
    const optimFuture = trainingClient.optimStep(new tinker.AdamParams({ learningRate: 5e-3 }));
    const fwdbwdResult = await fwdbwdFuture.result();
    await optimFuture.result();
    const logprobs = fwdbwdResult.lossFnOutputs.flatMap((output) => output.logprobs!.toArray());
    const allWeights = examples.flatMap((example) => example.lossFnInputs.weights!.toArray());
    expect(-dot(logprobs, allWeights)).toBeCloseTo(fwdbwdResult.metrics['loss:sum']!, 2);
    losses.push(-dot(logprobs, allWeights) / sum(allWeights));
  }
  expect(losses.at(-1)).toBeLessThan(losses[0]! / 2);

  const sampler = await trainingClient.saveWeightsAndGetSamplingClient();
  const prompt = modelInput('English: banana split\nPig Latin:');
  const params = new types.SamplingParams({ maxTokens: 24, temperature: 0.0, stop: ['\n'] });
  const result = await sampler.sample({ prompt, samplingParams: params, numSamples: 3 }).result();
  const texts = result.sequences.map((seq) => tokenizer.decode(seq.tokens));
  expect(new Set(texts).size).toBe(1);
  await sampler.dispose();
});

test('training and sampling: logprobs of a prompt, with the likeliest tokens', async () => {
  const prompt = modelInput("How many r's are in the word strawberry?");
  const sampleResponse = await samplingClient
    .sample({
      prompt,
      numSamples: 1,
      samplingParams: new tinker.SamplingParams({ maxTokens: 1 }),
      includePromptLogprobs: true,
      topkPromptLogprobs: 5,
    })
    .result();
  const logprobs = await samplingClient.computeLogprobs(prompt).result();
  expect(sampleResponse.promptLogprobs).toEqual(logprobs);
  expect(logprobs).toHaveLength(prompt.length);
  expect(logprobs[0]).toBe(null);

  // the trained path's log-probabilities of the same tokens
  const tokens = prompt.toInts();
  const forward = await (
    await serviceClient.createLoraTrainingClient({ rank: 1, seed: 2 })
  ).forward(
    [
      new types.Datum({
        modelInput: types.ModelInput.fromInts(tokens.slice(0, -1)),
        lossFnInputs: { target_tokens: tokens.slice(1), weights: tokens.slice(1).map(() => 1) },
      }),
    ],
    'cross_entropy',
  );
  const trained = forward.lossFnOutputs[0]!.logprobs!.toArray();
  trained.forEach((logprob, i) => expect(logprobs[i + 1]).toBeCloseTo(logprob, 3));

  const rows = sampleResponse.topkPromptLogprobs!.toRows();
  expect(rows).toHaveLength(prompt.length);
  expect(rows[0]).toBe(null);
  rows.slice(1).forEach((row, i) => {
    expect(row!.map(([, logprob]) => logprob)).toEqual(row!.map(([, l]) => l).toSorted((a, b) => b - a));
    for (const [id, logprob] of row!) {
      if (id === tokens[i + 1]) expect(logprob).toBeCloseTo(logprobs[i + 1]!, 4);
      else if (logprobs[i + 1]! > row!.at(-1)![1]) expect(row!.map(([t]) => t)).toContain(tokens[i + 1]);
    }
  });
});

test('training and sampling: images are built, and refused by name', async () => {
  const imageData = new Uint8Array([137, 80, 78, 71]);
  const input = new tinker.ModelInput({
    chunks: [
      new tinker.EncodedTextChunk({ tokens: tokenizer.encode('<|im_start|>user\n') }),
      new tinker.ImageChunk({ data: imageData, format: 'png' }),
      new tinker.EncodedTextChunk({ tokens: tokenizer.encode('What is this?<|im_end|>\n') }),
    ],
  });
  const sample = samplingClient.sample({ prompt: input, samplingParams: { maxTokens: 100 } });
  expect(await rejection(sample)).toBeInstanceOf(tinker.UnsupportedError);
});

/** What the losses page takes as given: a sequence, what its sampler said of it, and how good it was. */
async function sampled(): Promise<{
  inputTokens: tinker.ModelInput;
  targetTokens: number[];
  samplingLogprobs: number[];
  advantages: number[];
}> {
  const prompt = modelInput('Copy: banana split\nAnswer:');
  const { sequences } = await samplingClient.sample({ prompt, samplingParams: { maxTokens: 12, seed: 3 } });
  const { tokens, logprobs } = sequences[0]!;
  const all = [...prompt.toInts(), ...tokens];
  const ahead = prompt.length - 1;
  return {
    inputTokens: types.ModelInput.fromInts(all.slice(0, -1)),
    targetTokens: all.slice(1),
    samplingLogprobs: [...Array<number>(ahead).fill(0), ...logprobs],
    advantages: [...Array<number>(ahead).fill(0), ...logprobs.map((_, i) => (i % 3) - 1)],
  };
}

test('losses: each of the predefined ones is the formula of its section', async () => {
  const { TensorData } = tinker;
  const { inputTokens, targetTokens, samplingLogprobs, advantages } = await sampled();
  const datum = new tinker.Datum({
    modelInput: inputTokens,
    lossFnInputs: {
      target_tokens: TensorData.fromArray(targetTokens, 'int64'),
      logprobs: TensorData.fromArray(samplingLogprobs),
      advantages: TensorData.fromArray(advantages),
    },
  });
  const clamp = (x: number, low: number, high: number): number => Math.min(Math.max(x, low), high);
  /** the loss by hand, of what the engine says the log-probabilities are */
  const total = (
    { lossFnOutputs }: tinker.ForwardBackwardOutput,
    objective: (lp: number, ratio: number, advantage: number, old: number) => number,
  ): number =>
    -sum(
      lossFnOutputs[0]!.logprobs!.toArray().map((lp, i) => {
        const old = samplingLogprobs[i]!;
        return objective(lp, Math.exp(lp - old), advantages[i]!, old);
      }),
    );

  const importance = await trainingClient.forwardBackward([datum], 'importance_sampling');
  expect(importance.metrics['loss:sum']).toBeCloseTo(
    total(importance, (_, ratio, a) => ratio * a),
    3,
  );

  const ppo = (low: number, high: number) => (_: number, ratio: number, a: number) =>
    Math.min(ratio * a, clamp(ratio, low, high) * a);
  const byDefault = await trainingClient.forwardBackward([datum], 'ppo');
  expect(byDefault.metrics['loss:sum']).toBeCloseTo(total(byDefault, ppo(0.8, 1.2)), 3);
  const set = await trainingClient.forwardBackward([datum], 'ppo', {
    clip_low_threshold: 0.9,
    clip_high_threshold: 1.1,
  });
  expect(set.metrics['loss:sum']).toBeCloseTo(total(set, ppo(0.9, 1.1)), 3);

  const cispo = await trainingClient.forwardBackward([datum], 'cispo', {
    clip_low_threshold: 0.8,
    clip_high_threshold: 1.2,
  });
  expect(cispo.metrics['loss:sum']).toBeCloseTo(
    total(cispo, (lp, ratio, a) => clamp(ratio, 0.8, 1.2) * lp * a),
    3,
  );

  const dro = await trainingClient.forwardBackward([datum], 'dro', { beta: 0.05 });
  expect(dro.metrics['loss:sum']).toBeCloseTo(
    total(dro, (lp, _, a, old) => lp * a - 0.5 * 0.05 * (lp - old) ** 2),
    2,
  );
  await trainingClient.optimStep({ learningRate: 0 });
});

test('losses: functions of your own, differentiated and by hand', async () => {
  const data = processedExamples();
  const logprobSquaredLoss = jaxLoss((_data, logprobs) => {
    const loss = np.square(np.concatenate(logprobs)).sum();
    return { loss: loss.ref, metrics: { logprob_squared_loss: loss } };
  });
  const varianceLoss = jaxLoss((_data, logprobs) => {
    const variance = np.var_(np.concatenate(logprobs), null, { correction: 1 });
    return { loss: variance.ref, metrics: { variance_loss: variance } };
  });
  const meanLoss: tinker.CustomLossFn = (_data, logprobs) => {
    const rows = logprobs.map((lp) => lp.toArray());
    const loss = sum(rows.map((row) => sum(row) / row.length)) / rows.length;
    const gradients = rows.map((row) => row.map(() => 1 / row.length / rows.length));
    return { loss, gradients, metrics: { custom_metric: loss } };
  };

  const { lossFnOutputs } = await trainingClient.forward(data, 'cross_entropy');
  const flat = lossFnOutputs.flatMap((output) => output.logprobs!.toArray());
  const mean = sum(flat) / flat.length;

  const squared = await trainingClient.forwardBackwardCustom(data, logprobSquaredLoss);
  expect(squared.metrics['logprob_squared_loss']! / dot(flat, flat)).toBeCloseTo(1, 5);
  expect(squared.metrics['loss:sum']).toBe(squared.metrics['logprob_squared_loss']);
  const variance = await trainingClient.forwardBackwardCustom(data, varianceLoss);
  const deviations = flat.map((x) => x - mean);
  expect(variance.metrics['variance_loss']! / dot(deviations, deviations)).toBeCloseTo(
    1 / (flat.length - 1),
    5,
  );
  const averaged = await trainingClient.forwardBackwardCustom(data, meanLoss);
  expect(averaged.metrics['custom_metric']).toBe(averaged.metrics['loss:sum']);

  const { metrics } = await trainingClient.optimStep(new tinker.AdamParams({ learningRate: 1e-4 }));
  expect(metrics['grad_norm:mean']).toBeGreaterThan(0);
});

test('async and clock cycles: the next step is queued before the last one has come back', async () => {
  const n = 100;
  const dummy = new types.Datum({
    modelInput: types.ModelInput.fromInts(Array.from({ length: n }, (_, i) => i)),
    lossFnInputs: {
      weights: new Float32Array(n).fill(1),
      target_tokens: BigInt64Array.from({ length: n }, (_, i) => BigInt(i)),
    },
  });
  type Pending = [tinker.APIFuture<tinker.ForwardBackwardOutput>, tinker.APIFuture<tinker.OptimStepResponse>];
  let pending: Pending | undefined;
  const losses: number[] = [];
  const cycles: number[] = [];
  const finish = async ([forwardBackward, optim]: Pending): Promise<void> => {
    const { metrics } = await forwardBackward;
    await optim;
    losses.push(metrics['loss:sum']!);
    cycles.push(metrics['clock_cycle:unique']!);
  };
  for (let step = 0; step < 5; step++) {
    const submitted: Pending = [
      trainingClient.forwardBackward([dummy], 'cross_entropy'),
      trainingClient.optimStep(new types.AdamParams({ learningRate: 1e-3 })),
    ];
    if (pending) await finish(pending);
    pending = submitted;
  }
  await finish(pending!);
  expect(losses).toHaveLength(5);
  expect(losses.at(-1)).toBeLessThan(losses[0]!);
  expect(cycles).toEqual(cycles.map((_, i) => cycles[0]! + i));

  const future = trainingClient.forward([dummy], 'cross_entropy');
  const result = await future.result({ timeoutMs: 30_000 });
  expect(result.metrics['loss:sum']).toBeLessThan(losses[0]!);
});

test('save and load', async () => {
  const samplingPath = (await trainingClient.saveWeightsForSampler('0000').result()).path;
  const sampler = await serviceClient.createSamplingClient({ modelPath: samplingPath });
  const shortcut = await trainingClient.saveWeightsAndGetSamplingClient();
  const fromClient = await trainingClient.createSamplingClient(samplingPath);
  const prompt = modelInput('English: coffee break\nPig Latin:');
  const params = { maxTokens: 8, temperature: 0 };
  const [a, b, c] = await Promise.all(
    [sampler, shortcut, fromClient].map((client) => client.sample({ prompt, samplingParams: params })),
  );
  expect(b!.sequences[0]!.tokens).toEqual(a!.sequences[0]!.tokens);
  expect(c!.sequences[0]!.tokens).toEqual(a!.sequences[0]!.tokens);

  const resumePath = (await trainingClient.saveState('0010').result()).path;
  expect((await trainingClient.loadState(resumePath)).path).toBe(resumePath);
  await trainingClient.loadStateWithOptimizer(resumePath);
  const resumed = await serviceClient.createTrainingClientFromStateWithOptimizer(resumePath);
  const restarted = await serviceClient.createTrainingClientFromState(resumePath);
  const info = await resumed.getInfo();
  expect(info).toMatchObject({ modelName: BASE_MODEL, isLora: true, loraRank: 8, modelId: resumed.modelId });
  for (const client of [resumed, restarted, sampler, shortcut, fromClient]) await client.dispose();
});

test('the page of RestClient, publishing and downloads', async () => {
  const trainingRunId = trainingClient.modelId;
  const { path } = await trainingClient.saveState('rest', { ttlSeconds: 3600 });

  const trainingRun = await restClient.getTrainingRun(trainingRunId);
  expect(trainingRun).toMatchObject({ trainingRunId, baseModel: BASE_MODEL, isLora: true, loraRank: 8 });
  expect(await restClient.getTrainingRunByTinkerPath(path)).toEqual(trainingRun);
  const runs = await restClient.listTrainingRuns({ limit: 50 });
  expect(runs.trainingRuns).toHaveLength(Math.min(50, runs.cursor.totalCount));
  expect(
    (await restClient.listTrainingRuns({ limit: 50, offset: runs.cursor.totalCount })).trainingRuns,
  ).toEqual([]);

  const { checkpoints } = await restClient.listCheckpoints(trainingRunId);
  const checkpoint = checkpoints.find(({ tinkerPath }) => tinkerPath === path)!;
  expect(checkpoint).toMatchObject({
    checkpointType: 'training',
    checkpointId: 'weights/rest',
    public: false,
  });
  expect(checkpoint.expiresAt!.getTime() - checkpoint.time.getTime()).toBe(3_600_000);
  expect((await restClient.listUserCheckpoints({ limit: 100 })).checkpoints).toContainEqual(checkpoint);
  expect(tinker.ParsedCheckpointTinkerPath.fromTinkerPath(path)).toMatchObject({
    tinkerPath: path,
    trainingRunId,
    checkpointType: 'training',
    checkpointId: 'weights/rest',
  });

  await restClient.setCheckpointTtlFromTinkerPath(path, null);
  await restClient.publishCheckpointFromTinkerPath(path);
  const [published] = (await restClient.listCheckpoints(trainingRunId)).checkpoints;
  expect(published).toMatchObject({ tinkerPath: path, public: true, expiresAt: null });
  await (await serviceClient.createTrainingClientFromState(path)).dispose();
  await restClient.unpublishCheckpointFromTinkerPath(path);
  expect(await rejection(restClient.unpublishCheckpointFromTinkerPath(path))).toBeInstanceOf(
    tinker.ConflictError,
  );

  const weights = await restClient.getWeightsInfoByTinkerPath(path);
  expect(weights).toMatchObject({ baseModel: BASE_MODEL, loraRank: 8, trainAttn: true });

  const archive = await restClient.getCheckpointArchiveUrl(trainingRunId, 'weights/rest');
  expect(archive.expires.getTime()).toBeGreaterThan(Date.now());
  const tar = new Uint8Array(await (await fetch(archive.url)).arrayBuffer());
  // the magic of a tar's first header
  expect(new TextDecoder().decode(tar.subarray(257, 262))).toBe('ustar');
  const again = await restClient.getCheckpointArchiveUrlFromTinkerPath(path);
  expect(new Uint8Array(await (await fetch(again.url)).arrayBuffer())).toEqual(tar);

  const { sessions } = await restClient.listSessions({ limit: 20 });
  const session = await restClient.getSession(sessions[0]!);
  expect(session.trainingRunIds).toContain(trainingRunId);
  expect(session.samplerIds).toContain(samplingClient.samplerId);
  const sampler = await restClient.getSampler(samplingClient.samplerId);
  expect(sampler).toMatchObject({ baseModel: BASE_MODEL, modelPath: null });
  expect(await samplingClient.getBaseModel()).toBe(BASE_MODEL);

  await restClient.deleteCheckpoint(trainingRunId, 'weights/rest');
  expect(await rejection(restClient.deleteCheckpointFromTinkerPath(path))).toBeInstanceOf(
    tinker.NotFoundError,
  );
});

test('the page of types', () => {
  const { ModelInput, TensorData } = tinker;
  const input = ModelInput.empty()
    .append(new tinker.EncodedTextChunk({ tokens: [1, 2] }))
    .appendInt(3);
  expect(input.toInts()).toEqual([1, 2, 3]);
  expect(input.length).toBe(3);
  expect(() => new tinker.ImageChunk({ data: Uint8Array.of(1), format: 'png' }).length).toThrow(
    'expected_tokens',
  );

  const tensor = TensorData.fromArray([
    [1, 2, 3],
    [4, 5, 6],
  ]);
  expect(tensor).toMatchObject({ dtype: 'float32', shape: [2, 3] });
  expect(tensor.toArray()).toEqual([1, 2, 3, 4, 5, 6]);
  expect(tensor.toNested()).toEqual([
    [1, 2, 3],
    [4, 5, 6],
  ]);
  expect(new TensorData({ data: [1, 2], dtype: 'int64', shape: [2] }).toArray()).toEqual([1, 2]);

  expect({ ...new tinker.AdamParams() }).toEqual({
    learningRate: 1e-4,
    beta1: 0.9,
    beta2: 0.95,
    eps: 1e-12,
    weightDecay: 0,
    gradClipNorm: 0,
  });
  expect({ ...new tinker.SamplingParams() }).toEqual({
    maxTokens: null,
    seed: null,
    stop: null,
    temperature: 1,
    topK: -1,
    topP: 1,
  });
  expect(new tinker.LoraConfig().rank).toBe(32);
  const datum = new tinker.Datum({
    modelInput: input,
    lossFnInputs: {
      target_tokens: [2, 3, 4],
      weights: [0, 1, 1],
      logprobs: [0, 0, 0],
      advantages: [0, 1, 1],
    },
  });
  const dtypes = Object.entries(datum.lossFnInputs).map(([key, { dtype }]) => [key, dtype]);
  expect(Object.fromEntries(dtypes)).toEqual({
    target_tokens: 'int64',
    weights: 'float32',
    logprobs: 'float32',
    advantages: 'float32',
  });
});

test('the page of exceptions: each is what its parents are', () => {
  const kinds = [
    ['BadRequestError', 400],
    ['AuthenticationError', 401],
    ['PermissionDeniedError', 403],
    ['NotFoundError', 404],
    ['ConflictError', 409],
    ['UnprocessableEntityError', 422],
    ['RateLimitError', 429],
    ['InternalServerError', 500],
  ] as const;
  for (const [name, statusCode] of kinds) {
    const error = new tinker[name]('why');
    expect(error).toMatchObject({ statusCode, message: 'why', name });
    for (const parent of [tinker.APIStatusError, tinker.APIError, tinker.TinkerError, Error]) {
      expect(error).toBeInstanceOf(parent);
    }
  }
  expect(new tinker.APITimeoutError('why')).toBeInstanceOf(tinker.APIConnectionError);
});
