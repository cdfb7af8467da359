/** Elementwise comparison with a table of the worst mismatches. */
export interface Tolerance {
  /** absolute part */
  atol?: number;
  /** part relative to the expected value */
  rtol?: number;
}

/** Fails unless |actual − expected| ≤ atol + rtol·|expected| everywhere. Defaults: f32 forward. */
export function expectClose(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  { atol = 1e-5, rtol = 1e-4 }: Tolerance = {},
  what = 'values',
): void {
  if (actual.length !== expected.length) {
    throw new Error(`${what}: ${actual.length} elements, expected ${expected.length}`);
  }
  const bad: { i: number; a: number; e: number; over: number }[] = [];
  for (let i = 0; i < expected.length; i++) {
    const a = actual[i]!;
    const e = expected[i]!;
    const over = Math.abs(a - e) - (atol + rtol * Math.abs(e));
    if (!(over <= 0)) bad.push({ i, a, e, over: Number.isNaN(over) ? Infinity : over });
  }
  if (bad.length === 0) return;
  const rows = bad
    .sort((x, y) => y.over - x.over)
    .slice(0, 8)
    .map(({ i, a, e }) => `  [${i}] actual ${a}  expected ${e}  difference ${a - e}`);
  throw new Error(
    `${what}: ${bad.length} of ${expected.length} differ by more than ${atol} + ${rtol}·|expected|; worst:\n${rows.join('\n')}`,
  );
}

/** Largest |actual − expected| divided by the largest |expected|: the relative error of a whole tensor. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let worst = 0;
  let scale = 0;
  for (let i = 0; i < expected.length; i++) {
    const d = Math.abs(actual[i]! - expected[i]!);
    worst = Number.isNaN(d) ? Infinity : Math.max(worst, d);
    scale = Math.max(scale, Math.abs(expected[i]!));
  }
  return scale === 0 ? worst : worst / scale;
}

/** Deterministic normal-ish values for test inputs (not cryptographic): sum of four uniforms. */
export function randomArray(length: number, seed: number, scale = 1): Float32Array<ArrayBuffer> {
  let s = (seed * 2654435761) >>> 0;
  const next = (): number => {
    s = (s + 0x6d2b79f5) >>> 0;
    let t = s;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  return Float32Array.from({ length }, () => scale * (next() + next() + next() + next() - 2) * 1.7320508);
}
