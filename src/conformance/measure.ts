/**
 * How far two results are apart, in a measure that is fair to both: neither is the truth, each has its rounding.
 *
 * A result is a sum of terms. Rounding errors of float32 sums behave as a random walk (Higham & Mary 2019,
 * "A new approach to probabilistic rounding error analysis"): after n additions about u·√n/3·(|sum| + √Σ terms²)
 * with u = 2⁻²⁴, however the additions are ordered. So each element has a *magnitude*, computed in f64 from the
 * inputs, and a number of *roundings* that it may differ by; the bound is u · roundings · magnitude. Functions add
 * what WGSL allows them (exp: 3 + 2·|x| units in the last place, inverseSqrt: 2, log and division: 3).
 */
import type { HostArray } from '../kernels/op';

/** Half the distance from 1 to the next f32. */
const U = 2 ** -24;

/** Below this adapters may flush to zero. */
const FLUSHED = 2 ** -120;

/** What a run of a case gave, by name. */
export type Results = Readonly<Record<string, HostArray>>;

/** The worst element of a result. */
export interface Measured {
  /** |ours − oracle| / magnitude; infinite where only one of both is finite, or integers differ */
  readonly error: number;
  /** the largest error that passes; 0: none */
  readonly bound: number;
  readonly at: number;
  readonly ours: number;
  readonly oracle: number;
  /** elements beyond their bounds, of how many */
  readonly beyond: number;
  readonly of: number;
}

/** Compares a result with the oracle's; `all` are the other results of both. */
export type Check = (
  ours: HostArray,
  oracle: HostArray,
  all: { readonly ours: Results; readonly oracle: Results },
) => Measured;

/** The part of its bound that an error takes; above 1 it fails. */
export const shareOf = ({ error, bound }: Pick<Measured, 'error' | 'bound'>): number =>
  error === 0 ? 0 : error / bound;

/** Roundings that sums of `n` terms may differ by on two devices: five deviations of the random walk, and a few more. */
export const ofSum = (...n: readonly number[]): number =>
  4 + 2 * n.reduce((sum, terms) => sum + Math.sqrt(terms), 0);

/** Roundings of exp(x): WGSL's 3 + 2·|x| units in the last place, each two roundings, and the oracle's own. */
export const ofExp = (x: number): number => 8 + 4 * Math.abs(x);

type PerElement = number | ArrayLike<number> | ((i: number) => number);

const at = (values: PerElement, i: number): number =>
  typeof values === 'number' ? values : typeof values === 'function' ? values(i) : values[i]!;

function worst(
  ours: HostArray,
  oracle: HostArray,
  element: (i: number, a: number, b: number) => { readonly error: number; readonly bound: number },
): Measured {
  if (ours.length !== oracle.length) {
    throw new Error(`${ours.length} elements on one device, ${oracle.length} on the other`);
  }
  let found: Measured | undefined;
  let share = -1;
  let beyond = 0;
  for (let i = 0; i < ours.length; i++) {
    const [a, b] = [ours[i]!, oracle[i]!];
    const measured = element(i, a, b);
    const here = shareOf(measured);
    if (here > 1) beyond++;
    if (here <= share) continue;
    share = here;
    found = { ...measured, at: i, ours: a, oracle: b, beyond: 0, of: ours.length };
  }
  found ??= { error: 0, bound: 0, at: 0, ours: 0, oracle: 0, beyond: 0, of: 0 };
  return { ...found, beyond };
}

/** Equal, where NaN equals NaN and 0 equals −0. */
export const exact: Check = (ours, oracle) =>
  worst(ours, oracle, (_, a, b) => ({
    error: a === b || (Number.isNaN(a) && Number.isNaN(b)) ? 0 : Infinity,
    bound: 0,
  }));

/**
 * Within `roundings` of `magnitude`, element by element. Where the oracle is not finite ours must not be either: NaN
 * or infinite is the same to those who read it.
 * @param magnitude of an element; default: its own
 */
export const near =
  (roundings: PerElement, magnitude?: PerElement): Check =>
  (ours, oracle) =>
    worst(ours, oracle, (i, a, b) => {
      const bound = U * at(roundings, i);
      if (!Number.isFinite(a) || !Number.isFinite(b)) {
        return { error: Number.isFinite(a) === Number.isFinite(b) ? 0 : Infinity, bound };
      }
      const size = magnitude === undefined ? Math.abs(b) : at(magnitude, i);
      return { error: Math.abs(a - b) / (size + FLUSHED / U), bound };
    });

/** Within `bound` of the largest element of its block; blocks are [start, end) and cover what is compared. */
export const nearInBlocks =
  (bound: number, blocks?: readonly (readonly [number, number])[]): Check =>
  (ours, oracle, all) => {
    const sizes = new Float64Array(oracle.length);
    for (const [start, end] of blocks ?? [[0, oracle.length]]) {
      let size = 0;
      for (let i = start; i < end; i++) size = Math.max(size, Math.abs(oracle[i]!));
      sizes.fill(size, start, end);
    }
    return near(bound / U, sizes)(ours, oracle, all);
  };

/** Within `bound`, whatever the size. */
export const within = (bound: number): Check => near(bound / U, 1);
