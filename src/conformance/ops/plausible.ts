/** Which tokens a draw may rightly give, when sums of probabilities are only known to a tolerance. */

export interface SamplingRule {
  /** 0 is greedy */
  readonly temperature: number;
  /** 0 is off */
  readonly top_k: number;
  /** 1 is off */
  readonly top_p: number;
}

/** Ids by descending logit, lower ids first among equals. */
const ranked = (logits: ArrayLike<number>): number[] =>
  Array.from({ length: logits.length }, (_, i) => i).sort((a, b) => logits[b]! - logits[a]! || a - b);

/**
 * The tokens that sampling may give for `unit`, the uniform draw in [0, 1), by the rule in `sample.ts`.
 * @param slack how far off a logit may be
 * @param rounding relative error of sums of probabilities
 * @returns undefined where the logits leave open which tokens top-k or top-p keeps: then many may be right
 */
export function plausibleTokens(
  logits: ArrayLike<number>,
  { temperature, top_k, top_p }: SamplingRule,
  unit: number,
  slack: number,
  rounding: number,
): ReadonlySet<number> | undefined {
  const order = ranked(logits);
  const top = logits[order[0]!]!;
  if (temperature === 0) {
    return new Set(order.filter((id, i) => i === 0 || (slack > 0 && top - logits[id]! <= 2 * slack)));
  }
  const tolerance = rounding + (2 * slack) / temperature;
  const weights = Float64Array.from(logits, (x) => Math.exp((x - top) / temperature));
  const limit = top_k > 0 ? Math.min(top_k, order.length) : order.length;
  const close = (n: number): boolean =>
    n < order.length && slack > 0 && logits[order[n - 1]!]! - logits[order[n]!]! <= 2 * slack;
  if (close(limit)) return undefined;
  const kept = order.slice(0, limit);
  const lengths = new Set([limit]);
  if (top_p < 1) {
    const goal = top_p * kept.reduce((sum, id) => sum + weights[id]!, 0);
    lengths.clear();
    for (const wanted of [goal * (1 - tolerance), goal * (1 + tolerance)]) {
      let mass = 0;
      const end = kept.findIndex((id) => (mass += weights[id]!) >= wanted);
      lengths.add(end < 0 ? limit : end + 1);
    }
    if ([...lengths].some(close)) return undefined;
  }
  const found = new Set<number>();
  for (const length of lengths) {
    const ids = kept.slice(0, length).sort((a, b) => a - b);
    const mass = ids.reduce((sum, id) => sum + weights[id]!, 0);
    let passed = 0;
    for (const id of ids) {
      const [start, end] = [passed / mass, (passed + weights[id]!) / mass];
      if (unit >= start - tolerance && unit <= end + tolerance) found.add(id);
      passed += weights[id]!;
    }
  }
  return found;
}
