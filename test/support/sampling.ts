/** What sampling should do, in f64 and with a plain sort: the oracle of the sampling kernel. */

export interface SamplingRule {
  /** 0 is greedy */
  readonly temperature: number;
  /** 0 is off */
  readonly topK: number;
  /** 1 is off */
  readonly topP: number;
}

/** Ids by descending logit, lower ids first among equals. */
export function ranked(logits: ArrayLike<number>): number[] {
  return Array.from({ length: logits.length }, (_, i) => i).sort((a, b) => logits[b]! - logits[a]! || a - b);
}

/** log softmax(logits / temperature); temperature 0 counts as 1. */
export function logSoftmax(logits: ArrayLike<number>, temperature: number): Float64Array {
  const tau = temperature || 1;
  const top = Array.from(logits).reduce((a, x) => Math.max(a, x), -Infinity);
  const scaled = Float64Array.from(logits, (x) => (x - top) / tau);
  const log = Math.log(scaled.reduce((s, x) => s + Math.exp(x), 0));
  return scaled.map((x) => x - log);
}

/** The probability of every id after top-k and then top-p on the renormalised rest. */
export function samplingDistribution(
  logits: ArrayLike<number>,
  { temperature, topK, topP }: SamplingRule,
): Float64Array {
  const p = logSoftmax(logits, temperature).map(Math.exp);
  const order = ranked(logits);
  const greedy = temperature === 0;
  let kept = greedy ? order.slice(0, 1) : topK > 0 ? order.slice(0, topK) : order;
  if (!greedy && topP < 1) {
    const goal = topP * kept.reduce((s, id) => s + p[id]!, 0);
    let mass = 0;
    const end = kept.findIndex((id) => (mass += p[id]!) >= goal);
    if (end >= 0) kept = kept.slice(0, end + 1);
  }
  const mass = kept.reduce((s, id) => s + p[id]!, 0);
  const out = new Float64Array(logits.length);
  for (const id of kept) out[id] = p[id]! / mass;
  return out;
}

/**
 * Pearson's χ² of counts against probabilities, as standard deviations above its mean.
 * Ids expected fewer than 5 times are taken together. Infinite if something impossible was counted.
 */
export function chiSquareExcess(counts: ArrayLike<number>, probabilities: ArrayLike<number>): number {
  const n = Array.from(counts).reduce((a, b) => a + b, 0);
  let [chi, bins, rareCount, rareExpected] = [0, 0, 0, 0];
  for (let i = 0; i < counts.length; i++) {
    const expected = n * probabilities[i]!;
    if (expected === 0 && counts[i]! > 0) return Infinity;
    if (expected < 5) {
      rareCount += counts[i]!;
      rareExpected += expected;
    } else {
      chi += (counts[i]! - expected) ** 2 / expected;
      bins++;
    }
  }
  if (rareExpected >= 5) {
    chi += (rareCount - rareExpected) ** 2 / rareExpected;
    bins++;
  }
  const freedom = bins - 1;
  return freedom < 1 ? 0 : (chi - freedom) / Math.sqrt(2 * freedom);
}
