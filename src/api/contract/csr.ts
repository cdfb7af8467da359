/** What makes compressed sparse rows well-formed. */
import { BadRequestError } from './errors';
import type { TensorPayload } from './types';

export type Csr = NonNullable<TensorPayload['csr']>;

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
