/** What the losses refuse: settings, and shapes of targets; each a BadRequestError that names the field. */
import { describe, expect, it } from 'vitest';
import type { ForwardBackwardRequest } from '../../src/api/contract/backend';
import { BadRequestError } from '../../src/api/contract/errors';
import type { LossFnName, TensorPayload } from '../../src/api/contract/types';
import { checkForwardBackward } from '../../src/api/contract/validate';

const LIMITS = { vocabSize: 10, contextLength: 6 };

const tensor = (dtype: TensorPayload['dtype'], shape: number[], values: number[]): TensorPayload => ({
  dtype,
  shape,
  data: dtype === 'int64' ? Float64Array.from(values) : Float32Array.from(values),
});

/** The non-zeros of a (rows, columns) matrix. */
const sparse = (
  dtype: TensorPayload['dtype'],
  shape: number[],
  values: number[],
  crowIndices: number[],
  colIndices: number[],
): TensorPayload => ({ ...tensor(dtype, shape, values), csr: { crowIndices, colIndices } });

function refused(
  request: Pick<ForwardBackwardRequest, 'data' | 'lossFn' | 'lossFnConfig'>,
  message: string,
): void {
  const call = (): void => checkForwardBackward(request, LIMITS);
  expect(call).toThrow(BadRequestError);
  expect(call).toThrow(message);
}

describe('settings', () => {
  const inputs = {
    target_tokens: tensor('int64', [2], [1, 2]),
    logprobs: tensor('float32', [2], [-1, -2]),
    advantages: tensor('float32', [2], [1, 0]),
  };
  const request = (lossFn: LossFnName, lossFnConfig: Record<string, number>) => ({
    data: [{ tokens: [1, 2], lossFnInputs: inputs }],
    lossFn,
    lossFnConfig,
  });

  it('accepts none, some and bounds that touch', () => {
    for (const [lossFn, config] of [
      ['importance_sampling', {}],
      ['ppo', {}],
      ['ppo', { clip_high_threshold: 0.8 }],
      ['cispo', { clip_low_threshold: 4 }],
      ['dro', { beta: 0 }],
    ] as const)
      checkForwardBackward(request(lossFn, config), LIMITS);
  });

  it.each<[LossFnName, Record<string, number>, string]>([
    [
      'ppo',
      { beta: 1 },
      'loss_fn_config.beta: not a key of ppo; known: clip_low_threshold, clip_high_threshold',
    ],
    [
      'importance_sampling',
      { beta: 1 },
      'loss_fn_config.beta: not a key of importance_sampling; known: none',
    ],
    ['dro', { toString: 1 }, 'loss_fn_config.toString: not a key of dro; known: beta'],
    ['dro', { beta: -0.1 }, 'loss_fn_config.beta: must be at least 0, got -0.1'],
    ['dro', { beta: NaN }, 'loss_fn_config.beta: must be a finite number, got NaN'],
    ['dro', { beta: '1' as never }, 'loss_fn_config.beta: must be a finite number, got "1"'],
    [
      'cispo',
      { clip_high_threshold: Infinity },
      'loss_fn_config.clip_high_threshold: must be a finite number',
    ],
    ['cispo', { clip_high_threshold: 1e39 }, 'loss_fn_config.clip_high_threshold: must be a finite number'],
    ['ppo', { clip_low_threshold: -1 }, 'loss_fn_config.clip_low_threshold: must be at least 0'],
    [
      'ppo',
      { clip_low_threshold: 1.3 },
      'loss_fn_config.clip_low_threshold: must be at most clip_high_threshold (1.2), got 1.3',
    ],
    [
      'ppo',
      { clip_high_threshold: 0.5 },
      'loss_fn_config.clip_low_threshold: must be at most clip_high_threshold (0.5), got 0.8',
    ],
  ])('%s refuses %j', (lossFn, config, message) => refused(request(lossFn, config), message));
});

describe('several targets a token', () => {
  const targets = tensor('int64', [2, 3], [1, 2, 3, 4, 5, 0]);
  const weights = tensor('float32', [2, 3], [1, 1, 1, 0.5, 0.5, 0]);
  const request = (inputs: Record<string, TensorPayload>, lossFn: LossFnName = 'cross_entropy') => ({
    data: [{ tokens: [1, 2], lossFnInputs: inputs }],
    lossFn,
    lossFnConfig: {},
  });
  /** [[1, 0, 2], [0, 0, 0]] */
  const good = sparse('int64', [2, 3], [1, 2], [0, 2, 2], [0, 2]);

  it('accepts them dense, sparse, mixed, and one in a column of its own', () => {
    for (const target_tokens of [targets, good]) {
      checkForwardBackward(request({ target_tokens, weights }), LIMITS);
      const none = sparse('float32', [2, 3], [], [0, 0, 0], []);
      checkForwardBackward(request({ target_tokens, weights: none }), LIMITS);
    }
    const column = {
      target_tokens: tensor('int64', [2, 1], [1, 2]),
      weights: tensor('float32', [2, 1], [1, 1]),
    };
    checkForwardBackward(request(column), LIMITS);
  });

  it.each<[string, Record<string, TensorPayload>, string]>([
    [
      'rows that are not tokens',
      { target_tokens: tensor('int64', [3, 2], [1, 2, 3, 4, 5, 0]), weights },
      'data[0].loss_fn_inputs.target_tokens: must have shape [2] or [2, K], one row per input token, got [3, 2]',
    ],
    [
      'no targets',
      { target_tokens: tensor('int64', [2, 0], []), weights: tensor('float32', [2, 0], []) },
      'target_tokens: must have 1 to 10 targets per token, got [2, 0]',
    ],
    [
      'more targets than ids',
      { target_tokens: sparse('int64', [2, 11], [], [0, 0, 0], []), weights },
      'target_tokens: must have 1 to 10 targets per token, got [2, 11]',
    ],
    [
      'three dimensions',
      { target_tokens: tensor('int64', [2, 1, 1], [1, 2]), weights },
      'target_tokens: must have shape [2] or [2, K]',
    ],
    [
      'weights of another shape',
      { target_tokens: targets, weights: tensor('float32', [2], [1, 1]) },
      'data[0].loss_fn_inputs.weights: must have shape [2, 3], as target_tokens, got [2]',
    ],
    [
      'fewer numbers than the shape',
      { target_tokens: targets, weights: tensor('float32', [2, 3], [1, 1]) },
      'weights: [2, 3] needs 6 numbers, got 2',
    ],
    [
      'an id over the vocabulary',
      { target_tokens: tensor('int64', [2, 3], [1, 2, 3, 4, 10, 0]), weights },
      'target_tokens[4]: token id 10 is outside the vocabulary of 10',
    ],
    [
      'a sparse NaN',
      { target_tokens: targets, weights: sparse('float32', [2, 3], [NaN], [0, 1, 1], [0]) },
      'weights[0]: must be finite, got NaN',
    ],
    [
      'sparse of one dimension',
      { target_tokens: sparse('int64', [2], [1], [0, 1, 1], [0]), weights },
      'target_tokens',
    ],
    [
      'too few row starts',
      { target_tokens: { ...good, csr: { crowIndices: [0, 2], colIndices: [0, 2] } }, weights },
      'target_tokens',
    ],
    [
      'rows that do not start at 0',
      { target_tokens: { ...good, csr: { crowIndices: [1, 2, 2], colIndices: [0, 2] } }, weights },
      'target_tokens',
    ],
    [
      'rows that fall',
      { target_tokens: sparse('int64', [2, 3], [1, 2], [0, 3, 2], [0, 2]), weights },
      'target_tokens',
    ],
    [
      'a NaN row',
      { target_tokens: sparse('int64', [2, 3], [1, 2], [0, NaN, 2], [0, 2]), weights },
      'target_tokens',
    ],
    [
      'rows that end early',
      { target_tokens: sparse('int64', [2, 3], [1, 2], [0, 1, 1], [0, 2]), weights },
      'target_tokens',
    ],
    [
      'a column outside',
      { target_tokens: sparse('int64', [2, 3], [1, 2], [0, 2, 2], [0, 3]), weights },
      'target_tokens',
    ],
    [
      'a column twice',
      { target_tokens: sparse('int64', [2, 3], [1, 2], [0, 2, 2], [1, 1]), weights },
      'target_tokens',
    ],
    [
      'fewer columns than values',
      { target_tokens: sparse('int64', [2, 3], [1, 2], [0, 2, 2], [1]), weights },
      'target_tokens',
    ],
  ])('refuses %s', (_, inputs, message) => refused(request(inputs), message));

  it('is for cross_entropy alone', () => {
    for (const lossFn of ['importance_sampling', 'ppo', 'cispo', 'dro'] as const) {
      const inputs = { target_tokens: targets, logprobs: weights, advantages: weights };
      refused(
        request(inputs, lossFn),
        'target_tokens: must have shape [2], one row per input token, got [2, 3]',
      );
    }
  });
});
