/**
 * Philox4x32-10, the counter-based generator of Salmon, Moraes, Dror & Shaw 2011
 * ("Parallel random numbers: as easy as 1, 2, 3"): a pure function of a 64-bit key and a 128-bit counter,
 * so that a draw depends on what it is for and never on the order of drawing. Mirrors `sample/philox.wgsl`.
 */

/** Four 32-bit words. */
export type Words4 = readonly [number, number, number, number];

/** Last counter word: keeps the streams of different uses apart. */
export const PHILOX_USE = { sample: 0, fill: 1 } as const;

const MULTIPLIER = [0xd2511f53, 0xcd9e8d57] as const;
const WEYL = [0x9e3779b9, 0xbb67ae85] as const;

/** High 32 bits of the 64-bit product of two 32-bit words. */
function mulHigh(a: number, b: number): number {
  const [a0, a1, b0, b1] = [a & 0xffff, a >>> 16, b & 0xffff, b >>> 16];
  // each sum stays below 2^53, so plain numbers hold it exactly
  const middle = a1 * b0 + Math.floor((a0 * b0) / 65536);
  const carry = (middle % 65536) + a0 * b1;
  return (a1 * b1 + Math.floor(middle / 65536) + Math.floor(carry / 65536)) >>> 0;
}

/** The ten-round block function. All words are unsigned. */
export function philox4x32(counter: Words4, key: readonly [number, number]): Words4 {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const [high0, low0] = [mulHigh(MULTIPLIER[0], c0), Math.imul(MULTIPLIER[0], c0) >>> 0];
    const [high1, low1] = [mulHigh(MULTIPLIER[1], c2), Math.imul(MULTIPLIER[1], c2) >>> 0];
    [c0, c1, c2, c3] = [(high1 ^ c1 ^ k0) >>> 0, low1, (high0 ^ c3 ^ k1) >>> 0, low0];
    k0 = (k0 + WEYL[0]) >>> 0;
    k1 = (k1 + WEYL[1]) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/** A seed (a whole number; taken modulo 2^64) as the two key words [low, high]. */
export function seedWords(seed: number | bigint): [number, number] {
  if (typeof seed === 'number' && !Number.isInteger(seed)) {
    throw new RangeError(`seed must be a whole number, got ${seed}`);
  }
  const bits = BigInt.asUintN(64, BigInt(seed));
  return [Number(bits & 0xffffffffn), Number(bits >> 32n)];
}

/** The 24 high bits of a word as an f32 in [0, 1). */
export const unitFloat = (word: number): number => (word >>> 8) / 2 ** 24;

/**
 * `count` values uniform in [low, high), rounded to f32: the same on every machine.
 * @param stream tells fills of one seed apart (say, the number of the matrix)
 */
export function philoxUniform(
  seed: number | bigint,
  stream: number,
  count: number,
  low: number,
  high: number,
): Float32Array<ArrayBuffer> {
  const key = seedWords(seed);
  const out = new Float32Array(count);
  for (let i = 0; i < count; i += 4) {
    const words = philox4x32([i / 4, stream, 0, PHILOX_USE.fill], key);
    for (let j = 0; j < 4 && i + j < count; j++) out[i + j] = low + (high - low) * unitFloat(words[j]!);
  }
  return out;
}
