/**
 * Checks at the door, on the plain data of the seam. Clients run them before a
 * request is queued; the engine runs them again with the limits of the model.
 * Each failure is a `BadRequestError` whose message starts with the field.
 */
import type { CreateModelRequest, ExportOnnxRequest, ForwardBackwardRequest, SampleRequest } from './backend';
import { checkCsr } from './csr';
import { BadRequestError } from './errors';
import { MAX_RANK } from './lora';
import { knownLosses, LOSSES, lossSettings, type LossSpec } from './losses';
import type { AdamParamsPayload, DatumPayload, LoraConfigPayload, LossFnName, TensorPayload } from './types';

/** What only the model knows; absent in a client that has not asked. */
export interface ModelLimits {
  /** number of token ids */
  readonly vocabSize: number;
  /** longest sequence, tokens */
  readonly contextLength: number;
}

/** Most tokens listed at a place of a prompt: more would not fit one buffer of every GPU at long contexts. */
export const MAX_TOPK_PROMPT_LOGPROBS = 256;
/** Smallest normal float32: below it an Adam epsilon may be flushed to 0, and 0/0 is NaN. */
const MIN_EPS = 1.1754943508222875e-38;

function refuse(message: string): never {
  throw new BadRequestError(message);
}

function check(condition: boolean, field: string, rule: string, got: unknown): asserts condition {
  if (!condition) refuse(`${field}: ${rule}, got ${show(got)}`);
}

const show = (value: unknown): string => (typeof value === 'string' ? JSON.stringify(value) : String(value));

/** A token id, below the vocabulary where it is known. */
const isToken = (id: number, vocabSize: number): boolean => Number.isInteger(id) && id >= 0 && id < vocabSize;

/** Checks first and words the error after: batches are long. */
function checkTokens(tokens: ArrayLike<number>, field: string, limits?: ModelLimits): void {
  if (tokens.length === 0) refuse(`${field}: must have at least one token`);
  checkTokenIds(tokens, field, limits);
}

function checkTokenIds(tokens: ArrayLike<number>, field: string, limits?: ModelLimits): void {
  const vocabSize = limits?.vocabSize ?? Infinity;
  for (let i = 0; i < tokens.length; i++) {
    const id = tokens[i]!;
    if (isToken(id, vocabSize)) continue;
    const at = `${field}[${i}]`;
    check(Number.isInteger(id), at, 'must be an integer token id', id);
    refuse(`${at}: token id ${id} is ${id < 0 ? 'negative' : `outside the vocabulary of ${vocabSize}`}`);
  }
}

function checkFinite(data: ArrayLike<number>, field: string): void {
  for (let i = 0; i < data.length; i++) {
    if (!Number.isFinite(data[i])) refuse(`${field}[${i}]: must be finite, got ${show(data[i])}`);
  }
}

/** A whole number that a double holds exactly, or null. */
function checkSeed(seed: number | null, field: string): void {
  check(seed === null || Number.isSafeInteger(seed), field, 'must be an integer below 2^53 or null', seed);
}

/**
 * A forward or forward-backward request: known loss, settings and keys, non-empty
 * data, tensors of the shape the loss wants, finite numbers; with `limits` also
 * token ids below the vocabulary and sequences within the context.
 * @throws BadRequestError
 */
export function checkForwardBackward(
  { data, lossFn, lossFnConfig }: Pick<ForwardBackwardRequest, 'data' | 'lossFn' | 'lossFnConfig'>,
  limits?: ModelLimits,
): void {
  const spec = Object.hasOwn(LOSSES, lossFn) ? LOSSES[lossFn] : undefined;
  if (!spec) refuse(`loss_fn: unknown loss ${show(lossFn)}; known: ${knownLosses().join(', ')}`);
  checkSettings(lossFn, lossFnConfig);
  if (data.length === 0) refuse('data: must have at least one datum');
  data.forEach((datum, i) => checkDatum(datum, `data[${i}]`, lossFn, spec, limits));
}

function checkSettings(lossFn: LossFnName, given: Readonly<Record<string, number>>): void {
  const { config } = LOSSES[lossFn];
  const settings = lossSettings(lossFn, given);
  for (const [key, value] of Object.entries(settings)) {
    const field = `loss_fn_config.${key}`;
    const setting = Object.hasOwn(config, key) ? config[key]! : refuse(unknownKey(field, lossFn, config));
    const { min = -Infinity, atMost } = setting;
    const finite = typeof value === 'number' && Number.isFinite(Math.fround(value));
    check(finite, field, 'must be a finite number', value);
    check(value >= min, field, `must be at least ${min}`, value);
    const most = atMost === undefined ? Infinity : settings[atMost]!;
    check(value <= most, field, `must be at most ${atMost} (${most})`, value);
  }
}

function unknownKey(field: string, lossFn: string, known: Readonly<Record<string, unknown>>): string {
  const names = Object.keys(known).join(', ') || 'none';
  return `${field}: not a key of ${lossFn}; known: ${names}`;
}

function checkDatum(
  { tokens, lossFnInputs }: DatumPayload,
  field: string,
  lossFn: string,
  { inputs, manyTargets }: LossSpec,
  limits?: ModelLimits,
): void {
  checkTokens(tokens, `${field}.model_input`, limits);
  if (limits && tokens.length > limits.contextLength) {
    refuse(
      `${field}.model_input: ${tokens.length} tokens exceed the model's context window of ${limits.contextLength}`,
    );
  }
  for (const key of Object.keys(lossFnInputs)) {
    if (!Object.hasOwn(inputs, key)) refuse(unknownKey(`${field}.loss_fn_inputs.${key}`, lossFn, inputs));
  }
  for (const [key, dtype] of Object.entries(inputs)) {
    const name = `${field}.loss_fn_inputs.${key}`;
    const tensor = Object.hasOwn(lossFnInputs, key) ? lossFnInputs[key] : undefined;
    if (!tensor) refuse(`${name}: required by ${lossFn}`);
    if (tensor.dtype !== dtype) {
      const make = `give a plain list, or TensorData.fromArray(list, '${dtype}')`;
      refuse(`${name}: must be ${dtype}, got ${show(tensor.dtype)}; ${make}`);
    }
    // every loss has targets, and lists them first
    const shape = lossFnInputs['target_tokens']!.shape;
    if (key === 'target_tokens') checkTargetShape(tensor, name, tokens.length, manyTargets, limits);
    else if (tensor.shape.join() !== shape.join()) {
      refuse(`${name}: must have shape [${shape.join(', ')}], as target_tokens, got ${shapeOf(tensor)}`);
    }
    if (tensor.csr) checkCsr(tensor.csr, shape, tensor.data.length, name);
    else {
      const size = shape.reduce((a, b) => a * b, 1);
      check(
        tensor.data.length === size,
        name,
        `${shapeOf(tensor)} needs ${size} numbers`,
        tensor.data.length,
      );
    }
    if (key === 'target_tokens') checkTokenIds(tensor.data, name, limits);
    else checkFinite(tensor.data, name);
  }
}

const shapeOf = ({ shape }: TensorPayload): string => `[${shape.join(', ')}]`;

/** (N), or where the loss takes several targets a token (N, K). */
function checkTargetShape(
  tensor: TensorPayload,
  field: string,
  N: number,
  manyTargets: boolean,
  limits?: ModelLimits,
): void {
  const [rows, K = 1] = tensor.shape;
  const dimensions = tensor.shape.length === 1 || (manyTargets && tensor.shape.length === 2);
  if (!dimensions || rows !== N) {
    const allowed = manyTargets ? `[${N}] or [${N}, K]` : `[${N}]`;
    refuse(`${field}: must have shape ${allowed}, one row per input token, got ${shapeOf(tensor)}`);
  }
  const most = limits?.vocabSize ?? Number.MAX_SAFE_INTEGER;
  if (!Number.isSafeInteger(K) || K < 1 || K > most) {
    refuse(`${field}: must have 1 to ${most} targets per token, got ${shapeOf(tensor)}`);
  }
}

/** The settings of one optimizer step. @throws BadRequestError */
export function checkAdamParams(params: AdamParamsPayload): void {
  const inFloat32 = (x: number): boolean => Number.isFinite(Math.fround(x));
  for (const [name, value] of [
    ['learning_rate', params.learningRate],
    ['weight_decay', params.weightDecay],
    ['grad_clip_norm', params.gradClipNorm],
  ] as const) {
    check(inFloat32(value) && value >= 0, `adam_params.${name}`, 'must be finite and not negative', value);
  }
  for (const [name, value] of [
    ['beta1', params.beta1],
    ['beta2', params.beta2],
  ] as const) {
    check(value >= 0 && value < 1, `adam_params.${name}`, 'must be in [0, 1)', value);
  }
  check(
    inFloat32(params.eps) && params.eps >= MIN_EPS,
    'adam_params.eps',
    'must be positive and finite',
    params.eps,
  );
}

/** A request to make a model. @throws BadRequestError */
export function checkCreateModel({
  baseModel,
  lora,
  userMetadata,
}: Omit<CreateModelRequest, 'sessionId'>): void {
  if (typeof baseModel !== 'string' || baseModel === '') refuse('base_model is required');
  checkLora(lora);
  checkUserMetadata(userMetadata);
}

/** Strings by name. @throws BadRequestError */
export function checkUserMetadata(userMetadata: Readonly<Record<string, string>>): void {
  for (const [key, value] of Object.entries(userMetadata)) {
    check(typeof value === 'string', `user_metadata.${key}`, 'must be a string', value);
  }
}

/** Rank a power of two up to 256, at least one part to train. @throws BadRequestError */
export function checkLora(lora: LoraConfigPayload): void {
  const { rank } = lora;
  check(Number.isInteger(rank), 'lora_config.rank', 'must be an integer', rank);
  if (rank <= 0) refuse(`lora_config.rank must be positive, got ${rank}`);
  if (!Number.isInteger(Math.log2(rank))) refuse(`lora_config.rank must be a power of 2, got ${rank}`);
  if (rank > MAX_RANK) refuse(`lora_config.rank must be at most ${MAX_RANK}, got ${rank}`);
  checkSeed(lora.seed, 'lora_config.seed');
  if (!lora.trainUnembed && !lora.trainMlp && !lora.trainAttn) {
    refuse('At least one of train_unembed, train_mlp, or train_attn must be True');
  }
}

/** @throws BadRequestError */
export function checkExportOnnx({ inlineBytes }: Pick<ExportOnnxRequest, 'inlineBytes'>): void {
  const whole = inlineBytes === null || (Number.isSafeInteger(inlineBytes) && inlineBytes >= 0);
  check(whole, 'inline_bytes', 'must be a whole number of bytes, 0 or more', inlineBytes);
}

/**
 * A sampling request; with `limits` also that prompt and new tokens fit the
 * context (at least one new token when `maxTokens` is null).
 * @throws BadRequestError
 */
export function checkSample(
  { prompt, numSamples, params, topkPromptLogprobs }: Omit<SampleRequest, 'samplerId' | 'promptLogprobs'>,
  limits?: ModelLimits,
): void {
  checkTokens(prompt, 'prompt', limits);
  check(Number.isSafeInteger(numSamples) && numSamples >= 1, 'num_samples', 'must be at least 1', numSamples);
  const inRange = topkPromptLogprobs >= 0 && topkPromptLogprobs <= MAX_TOPK_PROMPT_LOGPROBS;
  check(
    Number.isSafeInteger(topkPromptLogprobs) && inRange,
    'topk_prompt_logprobs',
    `must be a whole number from 0 to ${MAX_TOPK_PROMPT_LOGPROBS}`,
    topkPromptLogprobs,
  );
  const { maxTokens, seed, stopStrings, stopTokens, temperature, topK, topP } = params;
  const at = 'sampling_params';
  const whole = maxTokens === null || Number.isSafeInteger(maxTokens);
  check(whole && (maxTokens ?? 1) >= 1, `${at}.max_tokens`, 'must be at least 1', maxTokens);
  checkSeed(seed, `${at}.seed`);
  check(
    Number.isFinite(temperature) && temperature >= 0,
    `${at}.temperature`,
    'must be 0 or more',
    temperature,
  );
  check(
    Number.isSafeInteger(topK) && (topK === -1 || topK >= 1),
    `${at}.top_k`,
    'must be -1 or at least 1',
    topK,
  );
  check(topP > 0 && topP <= 1, `${at}.top_p`, 'must be in (0, 1]', topP);
  stopStrings.forEach((s, i) =>
    check(typeof s === 'string' && s !== '', `${at}.stop[${i}]`, 'must be non-empty', s),
  );
  checkTokenIds(stopTokens, `${at}.stop`, limits);
  if (!limits) return;
  const [p, m, l] = [prompt.length, maxTokens ?? 1, limits.contextLength];
  if (p + m > l)
    refuse(`Prompt length plus max_tokens exceeds the model's context window: ${p} + ${m} > ${l}`);
}
