/** What every benchmark page shares: rows, interleaved timing, medians, seeded numbers. */

/** One result. `subject` is us (`webtinker`) or the peer's name. */
export interface Row {
  readonly bench: string;
  /** the GPU adapter, as the browser names it */
  readonly device: string;
  readonly subject: string;
  readonly value: number;
  readonly unit: string;
  readonly better: 'higher' | 'lower';
}

export interface BenchContext {
  readonly device: string;
  /** timed rounds per subject */
  readonly rounds: number;
  /** limits a bench to the parts whose name contains this */
  readonly filter: string;
  row(bench: string, subject: string, value: number, unit: string, better: Row['better']): void;
  progress(text: string): void;
}

export type Bench = (context: BenchContext) => Promise<void>;

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Milliseconds that `body` takes; it must wait for the GPU itself. */
export async function timed(body: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await body();
  return performance.now() - start;
}

/** Milliseconds of each timed round, by subject. */
export type Times<K extends string> = Readonly<Record<K, readonly number[]>>;

/**
 * Times subjects in turn (A B A B …), so that a change of the machine's load meets all of them alike.
 * Each subject runs once untimed first.
 */
export async function interleave<K extends string>(
  subjects: Readonly<Record<K, () => Promise<unknown>>>,
  rounds: number,
): Promise<Times<K>> {
  const names = Object.keys(subjects) as K[];
  const times = Object.fromEntries(names.map((n) => [n, [] as number[]])) as Record<K, number[]>;
  for (const name of names) await subjects[name]();
  for (let round = 0; round < rounds; round++) {
    for (const name of names) times[name].push(await timed(subjects[name]));
  }
  return times;
}

/** Median over the rounds of a / b: both sides of each ratio were timed one after the other. */
export function medianRatio(a: readonly number[], b: readonly number[]): number {
  return median(a.map((value, i) => value / b[i]!));
}

/** Uniform numbers in [0, 1) that are the same on every run (Mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** `length` seeded numbers, uniform in ±scale. */
export function uniformArray(length: number, scale: number, next: () => number): Float32Array<ArrayBuffer> {
  const out = new Float32Array(length);
  for (let i = 0; i < length; i++) out[i] = (2 * next() - 1) * scale;
  return out;
}

/** Fails unless every element of `actual` is within `tolerance` × the largest |expected|. */
export function expectAgreement(
  what: string,
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: number,
): void {
  if (actual.length !== expected.length) {
    throw new Error(`${what}: ${actual.length} values against ${expected.length}`);
  }
  let scale = 0;
  let worst = 0;
  for (let i = 0; i < expected.length; i++) {
    scale = Math.max(scale, Math.abs(expected[i]!));
    const difference = Math.abs(actual[i]! - expected[i]!);
    worst = Number.isNaN(difference) ? Infinity : Math.max(worst, difference);
  }
  if (!(worst <= tolerance * scale)) {
    throw new Error(`${what}: results differ by ${worst} (largest value ${scale}); refusing to time them`);
  }
}
