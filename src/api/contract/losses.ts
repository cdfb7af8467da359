/** What each loss reads: the one list of losses this release knows. */
import type { LossFnName, TensorDType } from './types';

/** A scalar that a caller may set in `loss_fn_config`. */
export interface LossSetting {
  readonly default: number;
  /** least value, inclusive; default: none */
  readonly min?: number;
  /** key of the setting that this one must not exceed */
  readonly atMost?: string;
}

export interface LossSpec {
  /** required tensors of each datum by wire name, all of shape (N) … */
  readonly inputs: Readonly<Record<string, TensorDType>>;
  /** … or, if true, all of one shape (N) or (N, K): K targets a token */
  readonly manyTargets: boolean;
  readonly config: Readonly<Record<string, LossSetting>>;
}

const POLICY_INPUTS = { target_tokens: 'int64', logprobs: 'float32', advantages: 'float32' } as const;

/** Bounds of ρ. */
const clip = (low: number, high: number): Readonly<Record<string, LossSetting>> => ({
  clip_low_threshold: { default: low, min: 0, atMost: 'clip_high_threshold' },
  clip_high_threshold: { default: high, min: 0 },
});

/**
 * Every loss is a sum over tokens and datums, not averaged. lp: log-probability of the target under the model;
 * ρ = exp(lp − logprobs), where the input `logprobs` are those of the policy that sampled.
 */
export const LOSSES: Readonly<Record<LossFnName, LossSpec>> = {
  // Σ −w·lp
  cross_entropy: {
    inputs: { target_tokens: 'int64', weights: 'float32' },
    manyTargets: true,
    config: {},
  },
  // −Σ ρ·A
  importance_sampling: { inputs: POLICY_INPUTS, manyTargets: false, config: {} },
  // −Σ min(ρ·A, clip(ρ, low, high)·A)
  ppo: { inputs: POLICY_INPUTS, manyTargets: false, config: clip(0.8, 1.2) },
  // −Σ sg(clip(ρ, low, high))·lp·A
  cispo: { inputs: POLICY_INPUTS, manyTargets: false, config: clip(0, 4) },
  // −Σ (lp·A − ½·β·(lp − logprobs)²); the service does not document its β: 0.05 is that of its example
  dro: { inputs: POLICY_INPUTS, manyTargets: false, config: { beta: { default: 0.05, min: 0 } } },
};

export const knownLosses = (): string[] => Object.keys(LOSSES);

/** The settings of a loss: what the caller gave, and the defaults of the rest. */
export function lossSettings(
  lossFn: LossFnName,
  given: Readonly<Record<string, number>>,
): Record<string, number> {
  const defaults = Object.entries(LOSSES[lossFn].config).map(([key, setting]) => [key, setting.default]);
  return { ...(Object.fromEntries(defaults) as Record<string, number>), ...given };
}

/** Element type of plain arrays given as loss inputs, by key (the service's conversion table). */
export const PLAIN_INPUT_DTYPES: Readonly<Record<string, TensorDType>> = {
  target_tokens: 'int64',
  weights: 'float32',
  advantages: 'float32',
  logprobs: 'float32',
  clip_low_threshold: 'float32',
  clip_high_threshold: 'float32',
};
