/** Settings: what the caller leaves out gets the service's default; unknown names are refused. */
import { BadRequestError } from './contract/errors';
import type { AdamParamsPayload, LoraConfigPayload, SamplingParamsPayload } from './contract/types';
import { checkNames } from './options';

/** Merges `init` over `defaults`. @throws BadRequestError on an unknown name */
function complete<T extends object>(name: string, defaults: T, init: Partial<T>): T {
  checkNames<Partial<T>>(name, init, Object.keys(defaults) as (string & keyof T)[]);
  const given = Object.entries(init).filter(([, value]) => value !== undefined);
  return { ...defaults, ...(Object.fromEntries(given) as Partial<T>) };
}

/** `Partial`, where an explicit `undefined` also means "the default". */
type Init<T> = { readonly [K in keyof T]?: T[K] | undefined };

const ADAM_DEFAULTS: AdamParamsPayload = {
  learningRate: 1e-4,
  beta1: 0.9,
  beta2: 0.95,
  eps: 1e-12,
  weightDecay: 0,
  gradClipNorm: 0,
};

export type AdamParamsInit = Init<AdamParamsPayload>;

/** AdamW's settings for one step. All of them travel with every step, so schedules live in the caller. */
export class AdamParams implements AdamParamsPayload {
  readonly learningRate!: number;
  /** decay of the running mean of the gradient */
  readonly beta1!: number;
  /** decay of the running mean of the squared gradient */
  readonly beta2!: number;
  /** added to the root of the second moment */
  readonly eps!: number;
  /** decoupled: p ← p − learningRate·weightDecay·p */
  readonly weightDecay!: number;
  /** largest global L2 norm of the gradient; 0 = no clipping */
  readonly gradClipNorm!: number;

  constructor(init: AdamParamsInit = {}) {
    Object.assign(this, complete('AdamParams', ADAM_DEFAULTS, init as Partial<AdamParamsPayload>));
  }
}

/** Strings to find in the decoded text, or token ids. */
export type Stop = string | readonly string[] | readonly number[];

interface SamplingSettings {
  maxTokens: number | null;
  seed: number | null;
  stop: Stop | null;
  temperature: number;
  topK: number;
  topP: number;
}

const SAMPLING_DEFAULTS: SamplingSettings = {
  maxTokens: null,
  seed: null,
  stop: null,
  temperature: 1,
  topK: -1,
  topP: 1,
};

export type SamplingParamsInit = Init<SamplingSettings>;

export class SamplingParams {
  /** most tokens to generate; null = up to the end of the context */
  readonly maxTokens!: number | null;
  /** fixes the samples; null = random */
  readonly seed!: number | null;
  /**
   * where to stop: strings (matched on the decoded text, across tokens) or token ids; the match is part of the
   * output. The model's end-of-sequence token stops it, too, except where this is an empty list.
   */
  readonly stop!: Stop | null;
  /** 0 = greedy */
  readonly temperature!: number;
  /** sample among the k likeliest tokens; −1 = all */
  readonly topK!: number;
  /** sample among the likeliest tokens that together have this probability; 1 = all */
  readonly topP!: number;

  constructor(init: SamplingParamsInit = {}) {
    Object.assign(this, complete('SamplingParams', SAMPLING_DEFAULTS, init as Partial<SamplingSettings>));
  }
}

/** @internal settings as they cross the seam */
export function samplingPayload(params: SamplingParams): SamplingParamsPayload {
  const { maxTokens, seed, temperature, topK, topP, stop } = params;
  // an empty list: nothing stops it, not even the model itself
  const stopAtEos = !(Array.isArray(stop) && stop.length === 0);
  return { maxTokens, seed, temperature, topK, topP, stopAtEos, ...splitStop(stop) };
}

function splitStop(stop: Stop | null): Pick<SamplingParamsPayload, 'stopStrings' | 'stopTokens'> {
  const list: readonly (string | number)[] = stop === null ? [] : typeof stop === 'string' ? [stop] : stop;
  const strings = list.filter((s) => typeof s === 'string');
  const tokens = list.filter((s) => typeof s === 'number');
  if (strings.length + tokens.length < list.length || (strings.length && tokens.length)) {
    throw new BadRequestError(
      'sampling_params.stop: must be a string, a list of strings, or a list of token ids',
    );
  }
  return { stopStrings: strings, stopTokens: tokens };
}

const LORA_DEFAULTS: LoraConfigPayload = {
  rank: 32,
  seed: null,
  trainMlp: true,
  trainAttn: true,
  trainUnembed: true,
};

export type LoraConfigInit = Init<LoraConfigPayload>;

/** What of a base model is trained, and how wide. */
export class LoraConfig implements LoraConfigPayload {
  /** a power of two, 1 … 256 */
  readonly rank!: number;
  /** fixes the initial adapter; null = random */
  readonly seed!: number | null;
  readonly trainMlp!: boolean;
  readonly trainAttn!: boolean;
  readonly trainUnembed!: boolean;

  constructor(init: LoraConfigInit = {}) {
    Object.assign(this, complete('LoraConfig', LORA_DEFAULTS, init as Partial<LoraConfigPayload>));
  }
}
