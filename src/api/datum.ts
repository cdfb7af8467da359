/** One training example. */
import { BadRequestError } from './contract/errors';
import { PLAIN_INPUT_DTYPES } from './contract/losses';
import type { DatumPayload } from './contract/types';
import { inputTokens, type ModelInput } from './model-input';
import { checkNames } from './options';
import { TensorData, type TensorLike } from './tensor-data';

/** Loss inputs by wire name. Plain arrays are converted by key, see `Datum`. */
export type LossFnInputs = Readonly<Record<string, TensorData | TensorLike>>;

export interface DatumInit {
  readonly modelInput: ModelInput;
  /** default: none */
  readonly lossFnInputs?: LossFnInputs;
}

/** Keys whose matrices become sparse where that is smaller. */
const SPARSE_KEYS: readonly string[] = ['target_tokens', 'weights'];

/**
 * N input tokens and the tensors its loss reads, each `(N)`: entry t belongs to
 * the prediction after input token t, so targets are the tokens shifted by one.
 * `cross_entropy` also takes `target_tokens` and `weights` of `(N, K)`: K targets
 * for each prediction.
 *
 * Plain and typed arrays become int64 under `target_tokens`, and float32 under
 * `weights`, `advantages`, `logprobs`, `clip_low_threshold`, `clip_high_threshold`.
 * `(N, K)` lists under `target_tokens` and `weights` become sparse where that is
 * smaller, as the SDK does with torch tensors; see `TensorData.fromDense`.
 * @throws BadRequestError an array under another key (give a `TensorData`)
 */
export class Datum {
  readonly modelInput: ModelInput;
  readonly lossFnInputs: Readonly<Record<string, TensorData>>;

  constructor(init: DatumInit) {
    checkNames('Datum', init, ['modelInput', 'lossFnInputs']);
    const { modelInput, lossFnInputs = {} } = init;
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
  return SPARSE_KEYS.includes(key)
    ? TensorData.fromDense(value, dtype, field)
    : TensorData.fromArray(value, dtype, field);
}

/** @internal @throws BadRequestError unless it is a list of datums */
export function checkDatums(data: readonly Datum[]): void {
  if (!Array.isArray(data)) throw new BadRequestError('data: must be a list of Datum');
  const bad = data.findIndex((datum) => !(datum instanceof Datum));
  if (bad >= 0) {
    throw new BadRequestError(`data[${bad}]: must be a Datum: new Datum({ modelInput, lossFnInputs })`);
  }
}

/** @internal datums as they cross the seam. @throws BadRequestError on what is none, UnsupportedError on images */
export function datumPayloads(data: readonly Datum[]): DatumPayload[] {
  checkDatums(data);
  return data.map(({ modelInput, lossFnInputs }, i) => ({
    tokens: inputTokens(modelInput, `data[${i}].model_input`),
    lossFnInputs: Object.fromEntries(
      Object.entries(lossFnInputs).map(([key, { dtype, shape, data, csr }]) => [
        key,
        { dtype, shape, data, ...(csr && { csr }) },
      ]),
    ),
  }));
}
