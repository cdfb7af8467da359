/** W + scale·B·A on the host: the same bytes whatever device the model runs on, and one weight in memory at a time. */

/** One LoRA pair. */
export interface LoraPair {
  /** (rank, inputs) */
  readonly a: Float32Array;
  /** (outputs, rank) */
  readonly b: Float32Array;
  readonly rank: number;
  /** alpha / rank */
  readonly scale: number;
}

/** Whether merging would change anything: a fresh adapter's B is zero. */
export const changesWeight = ({ b }: LoraPair): boolean => b.some((x) => x !== 0);

/** Multiply-adds between two looks at the clock. */
const SLICE = 2 ** 25;

/**
 * Adds scale·B·A to a weight (outputs, inputs) in place. Sums are f64, rounded once to f32.
 * @param pause awaited every so often, so that a worker stays able to answer; may throw to stop
 */
export async function mergeInto(
  weight: Float32Array,
  { a, b, rank, scale }: LoraPair,
  pause: () => Promise<void>,
): Promise<void> {
  const inputs = a.length / rank;
  const outputs = b.length / rank;
  if (weight.length !== inputs * outputs) {
    throw new Error(`a weight of ${weight.length} elements is not (${outputs}, ${inputs}) as its adapter is`);
  }
  const rows = Math.max(1, Math.floor(SLICE / a.length));
  const sum = new Float64Array(inputs);
  for (let n = 0; n < outputs; n++) {
    if (n % rows === 0) await pause();
    const row = weight.subarray(n * inputs, (n + 1) * inputs);
    sum.set(row);
    for (let r = 0; r < rank; r++) {
      const factor = scale * b[n * rank + r]!;
      if (factor === 0) continue;
      const from = a.subarray(r * inputs, (r + 1) * inputs);
      for (let k = 0; k < inputs; k++) sum[k]! += factor * from[k]!;
    }
    row.set(sum);
  }
}
