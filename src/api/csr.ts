/** Compressed sparse rows: a matrix of which only the non-zeros are kept. */
import type { Csr } from './contract/csr';
import type { TensorPayload } from './contract/types';

type Numbers = TensorPayload['data'];

/** Whether (rows, columns) with so many non-zeros takes fewer numbers as CSR (the service's rule). */
export const csrIsSmaller = (rows: number, columns: number, nonZeros: number): boolean =>
  rows + 1 + 2 * nonZeros < rows * columns;

/** The non-zeros of a dense (rows, columns), row by row, and where they are. */
export function toCsr<T extends Numbers>(
  dense: T,
  rows: number,
  columns: number,
): { readonly data: T; readonly csr: Csr } {
  const crowIndices = [0];
  const colIndices: number[] = [];
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      if (dense[row * columns + column] !== 0) colIndices.push(column);
    }
    crowIndices.push(colIndices.length);
  }
  return { data: dense.filter((x) => x !== 0) as T, csr: { crowIndices, colIndices } };
}

/** The matrix with its zeros, row-major. */
export function fromCsr<T extends Numbers>(
  data: T,
  { crowIndices, colIndices }: Csr,
  shape: readonly number[],
): T {
  const [rows, columns] = shape as [number, number];
  const dense = new (data.constructor as new (n: number) => T)(rows * columns);
  for (let row = 0; row < rows; row++) {
    for (let i = crowIndices[row]!; i < crowIndices[row + 1]!; i++) {
      dense[row * columns + colIndices[i]!] = data[i]!;
    }
  }
  return dense;
}
