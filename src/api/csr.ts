/** Compressed sparse rows: a matrix of which only the non-zeros are kept. */
import { BadRequestError } from './contract/errors';
import type { TensorPayload } from './contract/types';

export type Csr = NonNullable<TensorPayload['csr']>;
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

/** Two dimensions, row bounds that rise from 0 to the number of values, columns that rise within a row. @throws BadRequestError */
export function checkCsr(
  { crowIndices, colIndices }: Csr,
  shape: readonly number[],
  values: number,
  field: string,
): void {
  const refuse = (what: string, rule: string): never => {
    throw new BadRequestError(`${field}.${what}: ${rule}`);
  };
  if (shape.length !== 2) refuse('shape', `sparse tensors have two dimensions, got [${shape.join(', ')}]`);
  const [rows, columns] = shape as [number, number];
  if (colIndices.length !== values) {
    refuse('csr.colIndices', `must be one for each of ${values} values, got ${colIndices.length}`);
  }
  if (crowIndices.length !== rows + 1) {
    refuse('csr.crowIndices', `must be ${rows + 1} for ${rows} rows, got ${crowIndices.length}`);
  }
  if (crowIndices[0] !== 0 || crowIndices[rows] !== values) {
    refuse('csr.crowIndices', `must go from 0 to ${values}, got ${crowIndices[0]} to ${crowIndices[rows]}`);
  }
  for (let row = 0; row < rows; row++) {
    const [start, end] = [crowIndices[row]!, crowIndices[row + 1]!];
    if (!Number.isInteger(end) || end < start)
      refuse(`csr.crowIndices[${row + 1}]`, `must not be below ${start}`);
    for (let i = start, least = 0; i < end; i++) {
      const column = colIndices[i]!;
      if (!Number.isInteger(column) || column < least || column >= columns) {
        refuse(
          `csr.colIndices[${i}]`,
          `must be from ${least} to ${columns - 1} in row ${row}, got ${column}`,
        );
      }
      least = column + 1;
    }
  }
}
