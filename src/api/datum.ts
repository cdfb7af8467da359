/** One training example. */
import { BadRequestError } from './contract/errors';
import { PLAIN_INPUT_DTYPES } from './contract/losses';
import type { DatumPayload } from './contract/types';
import type { ModelInput } from './model-input';
import { TensorData, type TensorLike } from './tensor-data';

/** Loss inputs by wire name. Plain arrays are converted by key, see `Datum`. */
export type LossFnInputs = Readonly<Record<string, TensorData | TensorLike>>;

export interface DatumInit {
  readonly modelInput: ModelInput;
  readonly lossFnInputs: LossFnInputs;
}

/**
 * N input tokens and the tensors its loss reads, each `(N)`: entry t belongs to
 * the prediction after input token t, so targets are the tokens shifted by one.
 *
 * Plain and typed arrays become int64 under `target_tokens`, and float32 under
 * `weights`, `advantages`, `logprobs`, `clip_low_threshold`, `clip_high_threshold`.
 * @throws BadRequestError an array under another key (give a `TensorData`)
 */
export class Datum {
  readonly modelInput: ModelInput;
  readonly lossFnInputs: Readonly<Record<string, TensorData>>;

  constructor({ modelInput, lossFnInputs }: DatumInit) {
    this.modelInput = modelInput;
    this.lossFnInputs = Object.fromEntries(
      Object.entries(lossFnInputs).map(([key, value]) => [key, toTensor(key, value)]),
    );
  }
}

function toTensor(key: string, value: TensorData | TensorLike): TensorData {
  if (value instanceof TensorData) return value;
  const field = `loss_fn_inputs.${key}`;
  if (!Array.isArray(value) && !ArrayBuffer.isView(value)) {
    throw new BadRequestError(`${field}: must be a TensorData or an array, got ${typeof value}`);
  }
  const dtype = Object.hasOwn(PLAIN_INPUT_DTYPES, key) ? PLAIN_INPUT_DTYPES[key] : undefined;
  if (!dtype) {
    const known = Object.keys(PLAIN_INPUT_DTYPES).join(', ');
    throw new BadRequestError(`${field}: an array needs a known key (${known}); use TensorData.fromArray`);
  }
  return TensorData.fromArray(value, dtype, field);
}

/** @internal the datum as it crosses the seam */
export function datumPayload({ modelInput, lossFnInputs }: Datum): DatumPayload {
  const inputs = Object.entries(lossFnInputs).map(([key, { dtype, shape, data }]) => [
    key,
    { dtype, shape, data },
  ]);
  return {
    tokens: modelInput.toInts(),
    lossFnInputs: Object.fromEntries(inputs) as DatumPayload['lossFnInputs'],
  };
}
