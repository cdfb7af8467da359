/** The references of `test/fixtures/losses`, as requests. */
import type { DatumPayload, LossFnName, TensorPayload } from '../../src/api/contract/types';
import { parseSafetensors } from '../../src/models/safetensors';
import { relativeError } from './compare';
import type { Matrices } from './engine';
import { readFixture } from './files';

export interface LossCase {
  readonly name: string;
  readonly lossFn: LossFnName;
  readonly config: Readonly<Record<string, number>>;
  readonly data: readonly DatumPayload[];
  readonly loss: number;
  /** per datum, flat */
  readonly logprobs: readonly (readonly number[])[];
  /** of every LoRA matrix */
  readonly gradients: Matrices;
}

interface LossFile {
  readonly data: readonly {
    readonly tokens: number[];
    readonly targets: number[];
    readonly weights: number[];
    readonly logprobs: number[];
    readonly advantages: number[];
    readonly many: { readonly targets: number[][]; readonly weights: number[][] };
  }[];
  readonly cases: Readonly<Record<string, Pick<LossCase, 'lossFn' | 'config' | 'loss' | 'logprobs'>>>;
}

export const int64 = (
  values: readonly number[],
  shape: readonly number[] = [values.length],
): TensorPayload => ({
  dtype: 'int64',
  shape,
  data: Float64Array.from(values),
});

export const float32 = (
  values: readonly number[],
  shape: readonly number[] = [values.length],
): TensorPayload => ({
  dtype: 'float32',
  shape,
  data: Float32Array.from(values),
});

/** A matrix as its non-zeros. */
export function csr({ dtype, shape, data }: TensorPayload): TensorPayload {
  const [rows, columns] = shape as [number, number];
  const crowIndices = [0];
  const colIndices: number[] = [];
  const values: number[] = [];
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) {
      const x = data[r * columns + c]!;
      if (x === 0) continue;
      colIndices.push(c);
      values.push(x);
    }
    crowIndices.push(values.length);
  }
  const dense = dtype === 'int64' ? int64(values) : float32(values);
  return { ...dense, shape, csr: { crowIndices, colIndices } };
}

/** The cases of a model. */
export async function loadLossCases(model: string): Promise<ReadonlyMap<string, LossCase>> {
  const at = `losses/${model}`;
  const { data, cases } = (await (await readFixture(`${at}.json`)).json()) as LossFile;
  const { tensors } = parseSafetensors(await (await readFixture(`${at}.safetensors`)).arrayBuffer(), at);
  const matrix = (rows: number[][], make: typeof int64): TensorPayload =>
    make(rows.flat(), [rows.length, rows[0]!.length]);
  const inputsOf = (
    name: string,
    lossFn: LossFnName,
    d: LossFile['data'][number],
  ): DatumPayload['lossFnInputs'] => {
    if (name === 'cross_entropy_many') {
      return { target_tokens: matrix(d.many.targets, int64), weights: matrix(d.many.weights, float32) };
    }
    const target_tokens = int64(d.targets);
    return lossFn === 'cross_entropy'
      ? { target_tokens, weights: float32(d.weights) }
      : { target_tokens, logprobs: float32(d.logprobs), advantages: float32(d.advantages) };
  };
  return new Map(
    Object.entries(cases).map(([name, c]) => [
      name,
      {
        ...c,
        name,
        data: data.map((d) => ({ tokens: d.tokens, lossFnInputs: inputsOf(name, c.lossFn, d) })),
        gradients: new Map(
          [...tensors]
            .filter(([key]) => key.startsWith(`${name}/`))
            .map(([key, { data: values }]) => [key.slice(name.length + 1), values]),
        ),
      },
    ]),
  );
}

/** Largest error of a matrix, relative to its reference's largest element. Fails if names differ. */
export function worstError(actual: ReadonlyMap<string, Float32Array>, expected: Matrices): number {
  const names = [...expected.keys()].sort();
  if ([...actual.keys()].sort().join() !== names.join())
    throw new Error(`other matrices than ${names.join()}`);
  return Math.max(...names.map((name) => relativeError(actual.get(name)!, expected.get(name)!)));
}

/** Σ of matrices by name. */
export function sumOf(parts: readonly ReadonlyMap<string, Float32Array>[]): Matrices {
  return new Map(
    [...parts[0]!.keys()].map((name) => [
      name,
      Float32Array.from(parts[0]!.get(name)!, (_, i) =>
        parts.reduce((s, part) => s + part.get(name)![i]!, 0),
      ),
    ]),
  );
}
