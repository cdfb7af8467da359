/** Tensors that go with a datum or come back from a loss. */
import { checkCsr, type Csr } from './contract/csr';
import { BadRequestError } from './contract/errors';
import type { TensorDType, TensorPayload } from './contract/types';
import { csrIsSmaller, fromCsr, toCsr } from './csr';

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

export interface TensorDataInit {
  readonly dtype: TensorDType;
  /** flat, row-major; of a sparse matrix the non-zeros. A `Float32Array` for float32 and a `Float64Array` for int64 are taken without a copy. */
  readonly data: readonly number[] | Float32Array | Float64Array | IntArray;
  /** default: one dimension; required with `csr` */
  readonly shape?: readonly number[] | undefined;
  /** where the non-zeros of a matrix are */
  readonly csr?: Csr | undefined;
}

/**
 * `float32`, or `int64` (held as doubles: exact up to 2^53). Dense, or a sparse
 * matrix: then `csr` is there and `data` has the non-zeros only.
 */
export class TensorData implements TensorPayload {
  readonly dtype: TensorDType;
  /** of the whole tensor, sparse or not */
  readonly shape: readonly number[];
  /** flat, row-major; of a sparse matrix the non-zeros, row by row */
  readonly data: Float32Array<ArrayBuffer> | Float64Array<ArrayBuffer>;
  /** compressed sparse rows of (R, C): `crowIndices` (R + 1), `colIndices` (non-zeros) */
  declare readonly csr?: Csr;

  /** @throws BadRequestError naming what does not fit: dtype, shape, indices, an int64 that is no whole number */
  constructor({ dtype, data, shape, csr }: TensorDataInit) {
    if (dtype !== 'float32' && dtype !== 'int64') {
      throw new BadRequestError(`TensorData.dtype: must be float32 or int64, got ${String(dtype)}`);
    }
    if (csr && !shape) throw new BadRequestError('TensorData.shape: must be given with csr');
    this.dtype = dtype;
    this.data = toStorage(data, dtype, 'TensorData');
    this.shape = Object.freeze([...(shape ?? [data.length])]);
    const bad = this.shape.findIndex((n) => !Number.isSafeInteger(n) || n < 0);
    if (bad >= 0) {
      throw new BadRequestError(`TensorData.shape[${bad}]: must be a whole number, got ${this.shape[bad]}`);
    }
    if (csr) {
      checkCsr(csr, this.shape, data.length, 'TensorData');
      this.csr = csr;
    } else if (sizeOf(this.shape) !== data.length) {
      throw new BadRequestError(
        `TensorData.shape: [${this.shape.join(', ')}] needs ${sizeOf(this.shape)} numbers, got ${data.length}`,
      );
    }
  }

  /**
   * Copies numbers into a dense tensor. Nested lists give its shape, typed arrays are 1-D.
   * @param dtype default: `int64` for integer arrays, else `float32`
   * @param field how errors name it
   * @throws BadRequestError ragged lists, or an `int64` that is not a whole number up to 2^53
   */
  static fromArray(values: TensorLike, dtype?: TensorDType, field = 'TensorData'): TensorData {
    if (ArrayBuffer.isView(values)) {
      const float = values instanceof Float32Array || values instanceof Float64Array;
      const chosen = dtype ?? (float ? 'float32' : 'int64');
      return new TensorData({ dtype: chosen, data: toStorage(Array.from(values, Number), chosen, field) });
    }
    const flat: number[] = [];
    const shape = flatten(values, flat, field);
    const chosen = dtype ?? 'float32';
    return new TensorData({ dtype: chosen, shape, data: toStorage(flat, chosen, field) });
  }

  /**
   * As `fromArray`, and sparse where that takes fewer numbers: a matrix (R, C) with n non-zeros
   * becomes CSR iff (R + 1) + 2n < R·C.
   */
  static fromDense(values: TensorLike, dtype?: TensorDType, field = 'TensorData'): TensorData {
    const dense = TensorData.fromArray(values, dtype, field);
    const [rows, columns] = dense.shape;
    if (dense.shape.length !== 2) return dense;
    const { data, csr } = toCsr(dense.data, rows!, columns!);
    if (!csrIsSmaller(rows!, columns!, data.length)) return dense;
    return new TensorData({ dtype: dense.dtype, shape: dense.shape, data, csr });
  }

  /** The same tensor with its zeros; itself where it is dense already. */
  toDense(): TensorData {
    if (!this.csr) return this;
    const { dtype, shape, data, csr } = this;
    return new TensorData({ dtype, shape, data: fromCsr(data, csr, shape) });
  }

  /** All numbers, zeros included, flat, row-major. */
  toArray(): number[] {
    return Array.from(this.toDense().data);
  }

  /** All numbers, zeros included, in lists as deep as the shape. */
  toNested(): NestedNumbers[] {
    let level: NestedNumbers[] = this.toArray();
    for (let axis = this.shape.length - 1; axis > 0; axis--) {
      const size = this.shape[axis]!;
      const count = sizeOf(this.shape.slice(0, axis));
      const below = level;
      level = Array.from({ length: count }, (_, i) => below.slice(i * size, (i + 1) * size));
    }
    return level;
  }
}

const sizeOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/** Numbers as a tensor keeps them. @throws BadRequestError on an int64 that is not a whole number */
function toStorage(
  numbers: TensorDataInit['data'],
  dtype: TensorDType,
  field: string,
): TensorPayload['data'] {
  if (dtype === 'float32') {
    if (numbers instanceof Float32Array) return numbers as Float32Array<ArrayBuffer>;
    return Float32Array.from(numbers as ArrayLike<number>, Number);
  }
  const whole =
    numbers instanceof Float64Array ? numbers : Float64Array.from(numbers as ArrayLike<number>, Number);
  const bad = whole.findIndex((x) => !Number.isSafeInteger(x));
  if (bad >= 0) {
    throw new BadRequestError(`${field}[${bad}]: must be a whole number for int64, got ${whole[bad]}`);
  }
  return whole as Float64Array<ArrayBuffer>;
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
