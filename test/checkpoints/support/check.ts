/** Assertions for a suite that also runs in workers, where vitest's cannot be imported. */
import type { TinkerError } from '../../../src/api/contract/errors';

const show = (value: unknown): string =>
  value instanceof Map ? `Map ${show([...value])}` : (JSON.stringify(value) ?? String(value));

export function ok(condition: unknown, what: string): asserts condition {
  if (!condition) throw new Error(`not so: ${what}`);
}

/** Compares plain data, maps and all, by its JSON. */
export function equal(actual: unknown, expected: unknown, what: string): void {
  if (show(actual) !== show(expected))
    throw new Error(`${what}: got ${show(actual)}, expected ${show(expected)}`);
}

/** The rejection of `promise`, which must be of this class and say something that matches. */
export async function rejects<E extends TinkerError>(
  promise: Promise<unknown>,
  Class: new (message: string) => E,
  pattern: RegExp,
): Promise<E> {
  let value: unknown;
  try {
    value = await promise;
  } catch (error) {
    const { name, message, stack } = error as Error;
    const right = error instanceof Class && (error as Error).name === Class.name && pattern.test(message);
    if (!right) {
      throw new Error(`expected ${Class.name} ${pattern}, got ${name}: ${message}\n${stack}`, {
        cause: error,
      });
    }
    return error;
  }
  throw new Error(`expected ${Class.name} ${pattern}, but it resolved to ${show(value)}`);
}

/** Compares bit by bit: NaNs and signs of zeros count. */
export function sameBits(actual: Float32Array, expected: Float32Array, what: string): void {
  const bits = (x: Float32Array): string =>
    Array.from(new Uint32Array(x.slice().buffer), (n) => n.toString(16)).join(' ');
  equal(bits(actual), bits(expected), what);
}
