/** The losses by their wire name. A new loss is a file beside this one and a line here. */
import { cispo } from './cispo';
import { crossEntropy } from './cross-entropy';
import { dro } from './dro';
import { importanceSampling } from './importance-sampling';
import type { Loss } from './loss-map';
import { ppo } from './ppo';

export type { Loss, LossInput } from './loss-map';

export const LOSSES = {
  cross_entropy: crossEntropy,
  importance_sampling: importanceSampling,
  ppo,
  cispo,
  dro,
} satisfies Readonly<Record<string, Loss>>;

export type LossName = keyof typeof LOSSES;
