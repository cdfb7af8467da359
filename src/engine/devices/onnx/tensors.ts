/** Memory of the host as arrays and as tensors of ONNX Runtime; unsigned numbers are i32 there, bit for bit. */
import { sizeOf, type DType, type HostArray, type RunValues, type Size } from '../../../kernels/op';
import type { OnnxRuntime, OrtTensor } from './runtime';

/** @param offset in elements */
export function arrayOf(dtype: DType, data: ArrayBuffer, offset: number, length: number): HostArray {
  switch (dtype) {
    case 'f32':
      return new Float32Array(data, 4 * offset, length);
    case 'u32':
      return new Uint32Array(data, 4 * offset, length);
    case 'i32':
      return new Int32Array(data, 4 * offset, length);
  }
}

/** A tensor that lies in `data`, not a copy. @param offset in elements */
export function tensorOf(
  { Tensor }: OnnxRuntime,
  dtype: DType,
  data: ArrayBuffer,
  offset: number,
  dims: readonly number[],
): OrtTensor {
  const length = dims.reduce((n, size) => n * size, 1);
  return dtype === 'f32'
    ? new Tensor('float32', new Float32Array(data, 4 * offset, length), dims)
    : new Tensor('int32', new Int32Array(data, 4 * offset, length), dims);
}

/** A tensor without dimensions. */
export function scalarOf({ Tensor }: OnnxRuntime, type: 'f32' | 'i32' | 'i64', value: number): OrtTensor {
  switch (type) {
    case 'f32':
      return new Tensor('float32', Float32Array.of(value), []);
    case 'i32':
      return new Tensor('int32', Int32Array.of(value), []);
    case 'i64':
      return new Tensor('int64', BigInt64Array.of(BigInt(value)), []);
  }
}

/** The bytes of a tensor that a run returned. */
export function bytesOf({ data }: OrtTensor): Uint8Array<ArrayBuffer> {
  const { buffer, byteOffset, byteLength } = data as Float32Array<ArrayBuffer> | Int32Array<ArrayBuffer>;
  return new Uint8Array(buffer, byteOffset, byteLength);
}

export const dimsOf = (shape: readonly Size[], values: RunValues): number[] =>
  shape.map((size) => sizeOf(size, values));
