/** Dense tensors that go with a datum or come back from a loss. */
import { BadRequestError } from './contract/errors';
import type { TensorDType, TensorPayload } from './contract/types';

type IntArray =
  | Int8Array
  | Uint8Array
  | Uint8ClampedArray
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array;

/** A number, or lists of equal length of them, as deep as wanted. */
export type NestedNumbers = number | readonly NestedNumbers[];
/** What a tensor can be made of. */
export type TensorLike = readonly NestedNumbers[] | Float32Array | Float64Array | IntArray;

/** `float32`, or `int64` (held as doubles: exact up to 2^53). */
export class TensorData implements TensorPayload {
  readonly dtype: TensorDType;
  /** row-major */
  readonly shape: readonly number[];
  /** flat */
  readonly data: Float32Array<ArrayBuffer> | Float64Array<ArrayBuffer>;

  /** Takes `data` as it is, without a copy; see `fromArray` for the usual way. */
  constructor({ dtype, shape, data }: TensorPayload) {
    const size = shape.reduce((a, b) => a * b, 1);
    if (size !== data.length) {
      throw new BadRequestError(
        `TensorData.shape: [${shape.join(', ')}] needs ${size} numbers, got ${data.length}`,
      );
    }
    this.dtype = dtype;
    this.shape = [...shape];
    this.data = data;
  }

  /**
   * Copies numbers into a tensor. Nested lists give its shape, typed arrays are 1-D.
   * @param dtype default: `int64` for integer arrays, else `float32`
   * @param field how errors name it
   * @throws BadRequestError ragged lists, or an `int64` that is not a whole number up to 2^53
   */
  static fromArray(values: TensorLike, dtype?: TensorDType, field = 'TensorData'): TensorData {
    if (ArrayBuffer.isView(values)) {
      const float = values instanceof Float32Array || values instanceof Float64Array;
      const numbers = Array.from(values as ArrayLike<number | bigint>, Number);
      return TensorData.#make(numbers, [numbers.length], dtype ?? (float ? 'float32' : 'int64'), field);
    }
    const flat: number[] = [];
    const shape = flatten(values, flat, field);
    return TensorData.#make(flat, shape, dtype ?? 'float32', field);
  }

  static #make(numbers: readonly number[], shape: number[], dtype: TensorDType, field: string): TensorData {
    if (dtype === 'int64') {
      const bad = numbers.findIndex((x) => !Number.isSafeInteger(x));
      if (bad >= 0)
        throw new BadRequestError(`${field}[${bad}]: must be a whole number for int64, got ${numbers[bad]}`);
    }
    const data = dtype === 'int64' ? Float64Array.from(numbers) : Float32Array.from(numbers);
    return new TensorData({ dtype, shape, data });
  }

  /** All numbers, flat, row-major. */
  toArray(): number[] {
    return Array.from(this.data);
  }

  /** The numbers in lists as deep as the shape. */
  toNested(): NestedNumbers[] {
    let level: NestedNumbers[] = this.toArray();
    for (const size of this.shape.slice(1).reverse()) {
      const count = size === 0 ? 0 : level.length / size;
      level = Array.from({ length: count }, (_, i) => level.slice(i * size, (i + 1) * size));
    }
    return level;
  }
}

/** Appends the numbers of `value` to `into`; returns its shape. */
function flatten(value: readonly NestedNumbers[], into: number[], field: string): number[] {
  let inner: number[] | undefined;
  value.forEach((item: unknown, i) => {
    const at = `${field}[${i}]`;
    if (!Array.isArray(item) && typeof item !== 'number') {
      throw new BadRequestError(`${at}: must be a number or a list of numbers, got ${typeof item}`);
    }
    const shape = typeof item === 'number' ? [] : flatten(item as NestedNumbers[], into, at);
    if (typeof item === 'number') into.push(item);
    inner ??= shape;
    if (inner.join() !== shape.join() || inner.length !== shape.length) {
      throw new BadRequestError(
        `${at}: lists must have equal lengths, got [${shape.join(', ')}] after [${inner.join(', ')}]`,
      );
    }
  });
  return [value.length, ...(inner ?? [])];
}
