/** Every bad input is a BadRequestError that names the field. Each row changes one thing of a good request. */
import { describe, expect, it } from 'vitest';
import type { CreateModelRequest } from '../../src/api/contract/backend';
import { BadRequestError } from '../../src/api/contract/errors';
import type {
  AdamParamsPayload,
  DatumPayload,
  LossFnName,
  TensorPayload,
} from '../../src/api/contract/types';
import {
  checkAdamParams,
  checkCreateModel,
  checkForwardBackward,
  checkSample,
} from '../../src/api/contract/validate';

const LIMITS = { vocabSize: 10, contextLength: 6 };

function refused(call: () => void, message: string | RegExp): void {
  expect(call).toThrow(BadRequestError);
  expect(call).toThrow(message);
}

describe('forward and backward', () => {
  const int64 = (...x: number[]): TensorPayload => ({
    dtype: 'int64',
    shape: [x.length],
    data: Float64Array.from(x),
  });
  const float32 = (...x: number[]): TensorPayload => ({
    dtype: 'float32',
    shape: [x.length],
    data: Float32Array.from(x),
  });
  const good: DatumPayload = {
    tokens: [0, 5, 9],
    lossFnInputs: { target_tokens: int64(5, 9, 0), weights: float32(0, 1, -0.5) },
  };
  const request = (data: readonly DatumPayload[], lossFn: string = 'cross_entropy', lossFnConfig = {}) => ({
    data,
    lossFn: lossFn as LossFnName,
    lossFnConfig,
  });
  const inputs = (changes: Record<string, TensorPayload>): DatumPayload => ({
    ...good,
    lossFnInputs: { ...good.lossFnInputs, ...changes },
  });
  const long = (n: number): DatumPayload => ({
    tokens: Array<number>(n).fill(1),
    lossFnInputs: {
      target_tokens: int64(...Array<number>(n).fill(1)),
      weights: float32(...Array<number>(n).fill(1)),
    },
  });

  it('accepts a good request, up to the whole context', () => {
    checkForwardBackward(request([good, long(1), long(6)]), LIMITS);
    checkForwardBackward(request([long(7)]));
  });

  it.each<[string, ReturnType<typeof request>, string]>([
    ['empty data', request([]), 'data: must have at least one datum'],
    ['an unknown loss', request([good], 'hinge'), 'loss_fn: unknown loss "hinge"; known: cross_entropy'],
    ['a loss named like an Object method', request([good], 'toString'), 'known: cross_entropy'],
    [
      'an unknown config key',
      request([good], 'cross_entropy', { beta: 1 }),
      'loss_fn_config.beta: not a key of cross_entropy',
    ],
    [
      'no tokens',
      request([good, { ...good, tokens: [] }]),
      'data[1].model_input: must have at least one token',
    ],
    [
      'a fractional token',
      request([{ ...good, tokens: [0, 1.5, 2] }]),
      'data[0].model_input[1]: must be an integer token id, got 1.5',
    ],
    [
      'a NaN token',
      request([{ ...good, tokens: [NaN, 1, 2] }]),
      'data[0].model_input[0]: must be an integer token id, got NaN',
    ],
    [
      'a negative token',
      request([{ ...good, tokens: [0, 1, -1] }]),
      'data[0].model_input[2]: token id -1 is negative',
    ],
    [
      'a token over the vocabulary',
      request([{ ...good, tokens: [0, 10, 1] }]),
      'data[0].model_input[1]: token id 10 is outside the vocabulary of 10',
    ],
    [
      'a target over the vocabulary',
      request([inputs({ target_tokens: int64(5, 9, 10) })]),
      'data[0].loss_fn_inputs.target_tokens[2]: token id 10 is outside',
    ],
    [
      'a sequence over the context',
      request([long(7)]),
      "data[0].model_input: 7 tokens exceed the model's context window of 6",
    ],
    [
      'too few weights',
      request([inputs({ weights: float32(1, 1) })]),
      'data[0].loss_fn_inputs.weights: must have shape [3], as target_tokens, got [2]',
    ],
    [
      'too many targets',
      request([inputs({ target_tokens: int64(1, 2, 3, 4) })]),
      'data[0].loss_fn_inputs.target_tokens: must have shape [3]',
    ],
    [
      'two-dimensional weights',
      request([inputs({ weights: { ...float32(1, 1, 1), shape: [3, 1] } })]),
      'got [3, 1]',
    ],
    [
      'NaN weights',
      request([inputs({ weights: float32(0, 1, NaN) })]),
      'data[0].loss_fn_inputs.weights[2]: must be finite, got NaN',
    ],
    [
      'infinite weights',
      request([inputs({ weights: float32(-Infinity, 1, 1) })]),
      'data[0].loss_fn_inputs.weights[0]: must be finite, got -Infinity',
    ],
    [
      'weights of the wrong type',
      request([inputs({ weights: int64(0, 1, 1) })]),
      'data[0].loss_fn_inputs.weights: must be float32, got "int64"',
    ],
    [
      'no weights',
      request([{ ...good, lossFnInputs: { target_tokens: int64(5, 9, 0) } }]),
      'data[0].loss_fn_inputs.weights: required by cross_entropy',
    ],
    [
      'an unknown key',
      request([inputs({ mask: float32(1, 1, 1) })]),
      'data[0].loss_fn_inputs.mask: not a key of cross_entropy; known: target_tokens, weights',
    ],
  ])('refuses %s', (_, bad, message) => {
    refused(() => checkForwardBackward(bad, LIMITS), message);
  });
});

describe('optimizer settings', () => {
  const good: AdamParamsPayload = {
    learningRate: 1e-4,
    beta1: 0.9,
    beta2: 0.95,
    eps: 1e-12,
    weightDecay: 0,
    gradClipNorm: 0,
  };

  it('accepts good ones, at their bounds too', () => {
    checkAdamParams(good);
    checkAdamParams({ ...good, learningRate: 0, beta1: 0, beta2: 0, weightDecay: 0.1, gradClipNorm: 1 });
  });

  it.each<[keyof AdamParamsPayload, string, number[]]>([
    ['learningRate', 'learning_rate', [NaN, Infinity, -Infinity, -1e-4, 1e39]],
    ['beta1', 'beta1', [1, -0.1, NaN, 2]],
    ['beta2', 'beta2', [1, -0.1, NaN, Infinity]],
    ['eps', 'eps', [0, -1e-8, NaN, Infinity, 1e-40]],
    ['weightDecay', 'weight_decay', [NaN, -1, Infinity]],
    ['gradClipNorm', 'grad_clip_norm', [NaN, -1, Infinity]],
  ])('refuses bad values of %s', (key, name, values) => {
    for (const value of values) {
      refused(() => checkAdamParams({ ...good, [key]: value }), `adam_params.${name}: must be `);
      refused(() => checkAdamParams({ ...good, [key]: value }), `got ${value}`);
    }
  });
});

describe('making a model', () => {
  const lora = { rank: 32, seed: null, trainMlp: true, trainAttn: true, trainUnembed: true };
  const good: Omit<CreateModelRequest, 'sessionId'> = {
    baseModel: 'webtinker/pocket',
    lora,
    userMetadata: { a: 'b' },
  };

  it('accepts every power of two up to 256', () => {
    for (const rank of [1, 2, 4, 8, 16, 32, 64, 128, 256])
      checkCreateModel({ ...good, lora: { ...lora, rank } });
  });

  it.each<[string, Omit<CreateModelRequest, 'sessionId'>, string | RegExp]>([
    ['no base model', { ...good, baseModel: '' }, /^base_model is required$/],
    ['rank 0', { ...good, lora: { ...lora, rank: 0 } }, 'lora_config.rank must be positive'],
    ['rank -2', { ...good, lora: { ...lora, rank: -2 } }, 'lora_config.rank must be positive'],
    ['rank 3', { ...good, lora: { ...lora, rank: 3 } }, 'lora_config.rank must be a power of 2'],
    ['rank 512', { ...good, lora: { ...lora, rank: 512 } }, 'lora_config.rank must be at most 256, got 512'],
    ['rank 1.5', { ...good, lora: { ...lora, rank: 1.5 } }, 'lora_config.rank: must be an integer, got 1.5'],
    ['rank NaN', { ...good, lora: { ...lora, rank: NaN } }, 'lora_config.rank: must be an integer, got NaN'],
    ['seed 0.5', { ...good, lora: { ...lora, seed: 0.5 } }, 'lora_config.seed'],
    [
      'nothing to train',
      { ...good, lora: { ...lora, trainMlp: false, trainAttn: false, trainUnembed: false } },
      /^At least one of train_unembed, train_mlp, or train_attn must be True$/,
    ],
    [
      'metadata that is not text',
      { ...good, userMetadata: { n: 1 as unknown as string } },
      'user_metadata.n',
    ],
  ])('refuses %s', (_, bad, message) => {
    refused(() => checkCreateModel(bad), message);
  });
});

describe('sampling', () => {
  const params = {
    maxTokens: 3,
    seed: null,
    stopStrings: [],
    stopTokens: [],
    stopAtEos: true,
    temperature: 1,
    topK: -1,
    topP: 1,
  };
  const good = { prompt: [1, 2, 3], numSamples: 2, params, topkPromptLogprobs: 0 };
  const withParams = (changes: object) => ({ ...good, params: { ...params, ...changes } });

  it('accepts a prompt and new tokens that just fill the context', () => {
    checkSample(good, LIMITS);
    checkSample(withParams({ maxTokens: null, temperature: 0, topK: 1, topP: 0.01, seed: 2 ** 40 }), LIMITS);
    checkSample({ ...good, prompt: Array<number>(100).fill(1) });
  });

  it.each<[string, typeof good | ReturnType<typeof withParams>, string]>([
    ['an empty prompt', { ...good, prompt: [] }, 'prompt: must have at least one token'],
    [
      'a token over the vocabulary',
      { ...good, prompt: [1, 10] },
      'prompt[1]: token id 10 is outside the vocabulary of 10',
    ],
    ['no samples', { ...good, numSamples: 0 }, 'num_samples: must be at least 1, got 0'],
    ['half a sample', { ...good, numSamples: 0.5 }, 'num_samples'],
    ['no tokens', withParams({ maxTokens: 0 }), 'sampling_params.max_tokens: must be at least 1, got 0'],
    ['NaN tokens', withParams({ maxTokens: NaN }), 'sampling_params.max_tokens'],
    ['a negative temperature', withParams({ temperature: -0.1 }), 'sampling_params.temperature'],
    [
      'a NaN temperature',
      withParams({ temperature: NaN }),
      'sampling_params.temperature: must be 0 or more, got NaN',
    ],
    ['top-k 0', withParams({ topK: 0 }), 'sampling_params.top_k: must be -1 or at least 1, got 0'],
    ['top-k -2', withParams({ topK: -2 }), 'sampling_params.top_k'],
    ['top-p 0', withParams({ topP: 0 }), 'sampling_params.top_p: must be in (0, 1], got 0'],
    ['top-p 1.1', withParams({ topP: 1.1 }), 'sampling_params.top_p'],
    ['top-p NaN', withParams({ topP: NaN }), 'sampling_params.top_p'],
    ['a fractional seed', withParams({ seed: 1.5 }), 'sampling_params.seed'],
    [
      'an empty stop string',
      withParams({ stopStrings: ['a', ''] }),
      'sampling_params.stop[1]: must be non-empty, got ""',
    ],
    [
      'a stop token over the vocabulary',
      withParams({ stopTokens: [10] }),
      'sampling_params.stop[0]: token id 10',
    ],
    [
      'too much in all',
      withParams({ maxTokens: 4 }),
      "Prompt length plus max_tokens exceeds the model's context window: 3 + 4 > 6",
    ],
    [
      'a prompt that leaves no room',
      { ...withParams({ maxTokens: null }), prompt: [1, 1, 1, 1, 1, 1] },
      'context window: 6 + 1 > 6',
    ],
  ])('refuses %s', (_, bad, message) => {
    refused(() => checkSample(bad, LIMITS), message);
  });
});
