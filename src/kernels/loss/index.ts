/** The losses by their wire name. A new loss is a file beside this one and a line here. */
import { crossEntropy } from './cross-entropy';
import type { Loss } from './loss-map';

export type { Loss, LossInput } from './loss-map';

export const LOSSES = {
  cross_entropy: crossEntropy,
} satisfies Readonly<Record<string, Loss>>;

export type LossName = keyof typeof LOSSES;
