/** What each loss reads: the one list of losses this release knows. */
import type { LossFnName, TensorDType } from './types';

export interface LossSpec {
  /** required tensors of each datum, all of shape (N), by wire name */
  readonly inputs: Readonly<Record<string, TensorDType>>;
  /** scalars a caller may set, with their defaults */
  readonly config: Readonly<Record<string, number>>;
}

export const LOSSES: Readonly<Partial<Record<LossFnName, LossSpec>>> = {
  // Σ −w·logprob over tokens and datums, not averaged
  cross_entropy: { inputs: { target_tokens: 'int64', weights: 'float32' }, config: {} },
};

export const knownLosses = (): string[] => Object.keys(LOSSES);

/** Element type of plain arrays given as loss inputs, by key (the service's conversion table). */
export const PLAIN_INPUT_DTYPES: Readonly<Record<string, TensorDType>> = {
  target_tokens: 'int64',
  weights: 'float32',
  advantages: 'float32',
  logprobs: 'float32',
  clip_low_threshold: 'float32',
  clip_high_threshold: 'float32',
};
