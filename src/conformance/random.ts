/** Test data from a seed: the same on every machine, so that a case can be run again alone. */
import type { HostArray } from '../kernels/op';
import { philox4x32, seedWords, unitFloat } from '../kernels/philox';

/** Last counter word, unlike those of the engine's own streams (`PHILOX_USE`). */
const STREAM = 0x7e57;

export type F32 = Float32Array<ArrayBuffer>;
export type U32 = Uint32Array<ArrayBuffer>;

/**
 * How the values of a tensor are spread:
 * - `normal` around 0, with deviation 1
 * - `small`, `large`: the same times 1e-3 and 1e3
 * - `mixed`: each times a power of ten between 1e-3 and 1e3
 * - `sparse`: two of three are 0
 * - `ties`: multiples of ½, most of them several times
 */
export const SPREADS = ['normal', 'small', 'large', 'mixed', 'sparse', 'ties'] as const;
export type Spread = (typeof SPREADS)[number];

/** A number that depends on every character. */
function hash(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  return h >>> 0;
}

export class Random {
  readonly #key: readonly [number, number];
  readonly #label: number;
  #block = 0;
  #words: readonly number[] = [];
  #next = 0;

  /** @param label tells streams of one seed apart */
  constructor(
    seed: number,
    label: string,
    readonly index: number,
  ) {
    this.#key = seedWords(seed);
    this.#label = hash(label);
  }

  #word(): number {
    if (this.#next === this.#words.length) {
      this.#words = philox4x32([this.#block++, this.#label, this.index, STREAM], this.#key);
      this.#next = 0;
    }
    return this.#words[this.#next++]!;
  }

  /** In [0, 1). */
  unit(): number {
    return unitFloat(this.#word());
  }

  /** In [low, high). */
  within(low: number, high: number): number {
    return low + (high - low) * this.unit();
  }

  /** A whole number from low to high, both included. */
  int(low: number, high: number): number {
    return low + (this.#word() % (high - low + 1));
  }

  chance(probability: number): boolean {
    return this.unit() < probability;
  }

  pick<T>(of: readonly T[]): T {
    return of[this.#word() % of.length]!;
  }

  /** Mean 0, deviation 1 (Box & Muller 1958). */
  normal(): number {
    return Math.sqrt(-2 * Math.log(1 - this.unit())) * Math.cos(2 * Math.PI * this.unit());
  }

  /** A size for which kernels with tiles of 4, 16, 32 and 64 have an edge: tile − 1, tile, tile + 1 among them. */
  size(most: number): number {
    if (this.chance(0.3)) return this.int(1, most);
    const edges = [4, 8, 16, 32, 64, 128].flatMap((tile) => [tile - 1, tile, tile + 1, 2 * tile]);
    return this.pick([1, 2, 3, ...edges].filter((n) => n <= most));
  }

  /** `count` values. */
  values(count: number, spread: Spread = 'normal', scale = 1): F32 {
    return Float32Array.from({ length: count }, () => scale * this.#value(spread));
  }

  #value(spread: Spread): number {
    switch (spread) {
      case 'normal':
        return this.normal();
      case 'small':
        return 1e-3 * this.normal();
      case 'large':
        return 1e3 * this.normal();
      case 'mixed':
        return this.normal() * 10 ** this.int(-3, 3);
      case 'sparse':
        return this.chance(2 / 3) ? 0 : this.normal();
      case 'ties':
        return Math.round(2 * this.normal()) / 2;
    }
  }

  /** `count` whole numbers below `limit`. */
  ids(count: number, limit: number): U32 {
    return Uint32Array.from({ length: count }, () => this.int(0, limit - 1));
  }

  /** Lengths ≥ 1 of sequences of `total` tokens together, often uneven, some of one token. */
  lengths(total: number): number[] {
    if (this.chance(0.25)) return [total];
    const lengths: number[] = [];
    for (let left = total; left > 0;) {
      const length = this.chance(0.3) ? 1 : this.int(1, left);
      lengths.push(length);
      left -= length;
    }
    return lengths;
  }

  /** Distinct whole numbers below `limit`, in random order. */
  distinct(count: number, limit: number): number[] {
    const all = Array.from({ length: limit }, (_, i) => i);
    for (let i = 0; i < count; i++) {
      const j = this.int(i, limit - 1);
      [all[i], all[j]] = [all[j]!, all[i]!];
    }
    return all.slice(0, count);
  }

  /** Puts NaN or an infinity into some of the rows of `width`. */
  spoil<A extends HostArray>(data: A, width: number): A {
    for (let row = 0; row < data.length / width; row++) {
      if (this.chance(0.3))
        data[row * width + this.int(0, width - 1)] = this.pick([NaN, Infinity, -Infinity]);
    }
    return data;
  }
}

/** (T, 2) u32: [start, end) of each token's sequence, for sequences of these lengths back to back. */
export function segmentsOf(lengths: readonly number[]): U32 {
  const rows: number[] = [];
  let start = 0;
  for (const length of lengths) {
    for (let i = 0; i < length; i++) rows.push(start, start + length);
    start += length;
  }
  return Uint32Array.from(rows);
}
