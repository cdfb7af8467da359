/**
 * Losses of the caller's own, as functions of the log-probabilities. The engine knows none of them:
 * it runs a forward pass, the caller differentiates C(logprobs), and cross-entropy Σ −w·logprob with
 * weights w = −∂C/∂logprob has the same gradient.
 */
import type { ForwardBackwardRequest } from './contract/backend';
import { BadRequestError } from './contract/errors';
import { checkDatums, Datum, datumPayloads } from './datum';
import type { ForwardBackwardOutput } from './results';
import { TensorData, type TensorLike } from './tensor-data';

/** What a custom loss answers. */
export interface CustomLoss {
  /** the loss C, summed over the batch or however the caller means it */
  readonly loss: number;
  /** per datum ∂C/∂logprobs, of the shape of its log-probabilities */
  readonly gradients: readonly (TensorData | TensorLike)[];
  /** put into the output's metrics under these names */
  readonly metrics?: Readonly<Record<string, number>> | undefined;
}

/**
 * A loss of the log-probabilities of the targets, with its gradient.
 * @param data as given to `forwardBackwardCustom`, every loss input included
 * @param logprobs per datum, float32, of the shape of `target_tokens`: `(N)` or `(N, K)`
 */
export type CustomLossFn = (
  data: readonly Datum[],
  logprobs: readonly TensorData[],
) => CustomLoss | Promise<CustomLoss>;

type Batch = Pick<ForwardBackwardRequest, 'data' | 'lossFn' | 'lossFnConfig'>;

const crossEntropy = (data: readonly Datum[]): Batch => ({
  data: datumPayloads(data),
  lossFn: 'cross_entropy',
  lossFnConfig: {},
});

/** What the forward pass is given: the targets, with weights of zero where there are none. @throws BadRequestError without targets */
export function customForward(data: readonly Datum[]): Batch {
  checkDatums(data);
  return crossEntropy(
    data.map(({ modelInput, lossFnInputs }, i) => {
      const { target_tokens, weights } = lossFnInputs;
      if (!target_tokens) {
        throw new BadRequestError(`data[${i}].loss_fn_inputs.target_tokens: required by a custom loss`);
      }
      const { shape } = target_tokens;
      const zeros = new Float32Array(shape.reduce((a, b) => a * b, 1));
      return new Datum({
        modelInput,
        lossFnInputs: {
          target_tokens,
          weights: weights ?? new TensorData({ dtype: 'float32', shape, data: zeros }),
        },
      });
    }),
  );
}

/** Calls the caller's function, and checks what it answers. @throws BadRequestError naming the part */
export async function evaluate(
  data: readonly Datum[],
  lossFn: CustomLossFn,
  { lossFnOutputs }: ForwardBackwardOutput,
): Promise<CustomLoss & { readonly gradients: readonly TensorData[] }> {
  const logprobs = lossFnOutputs.map((outputs) => outputs.logprobs!);
  const custom = await lossFn(data, logprobs);
  if (!Number.isFinite(custom?.loss)) {
    throw new BadRequestError(
      `custom loss: must answer { loss, gradients }, got loss ${String(custom?.loss)}`,
    );
  }
  const { metrics = {} } = custom;
  const gradients: unknown = custom.gradients;
  if (!isList(gradients) || gradients.length !== data.length) {
    throw new BadRequestError(`custom loss gradients: must be a list of ${data.length}, one per datum`);
  }
  for (const [name, value] of Object.entries(metrics)) {
    if (typeof value === 'number') continue;
    throw new BadRequestError(`custom loss metrics.${name}: must be a number, got ${typeof value}`);
  }
  return { ...custom, gradients: gradients.map((g, i) => toGradient(g, logprobs[i]!.shape, i)) };
}

const isList = (value: unknown): value is CustomLoss['gradients'] => Array.isArray(value);

function toGradient(given: TensorData | TensorLike, shape: readonly number[], i: number): TensorData {
  const field = `custom loss gradients[${i}]`;
  const tensor = (
    given instanceof TensorData ? given : TensorData.fromArray(given, 'float32', field)
  ).toDense();
  // typed arrays have no shape of their own
  const flat = ArrayBuffer.isView(given) && tensor.data.length === shape.reduce((a, b) => a * b, 1);
  if (!flat && tensor.shape.join() !== shape.join()) {
    throw new BadRequestError(
      `${field}: must have the shape of the log-probabilities [${shape.join(', ')}], got [${tensor.shape.join(', ')}]`,
    );
  }
  const data = Float32Array.from(tensor.data);
  const bad = data.findIndex((x) => !Number.isFinite(x));
  if (bad >= 0) throw new BadRequestError(`${field}[${bad}]: must be finite, got ${data[bad]}`);
  return new TensorData({ dtype: 'float32', shape, data });
}

/** What the backward pass is given: the same targets, weighted by −∂C/∂logprob. */
export function customBackward(data: readonly Datum[], gradients: readonly TensorData[]): Batch {
  return crossEntropy(
    data.map(({ modelInput, lossFnInputs }, i) => {
      const { shape, data: gradient } = gradients[i]!;
      const weights = new TensorData({
        dtype: 'float32',
        shape,
        data: (gradient as Float32Array<ArrayBuffer>).map((g) => -g),
      });
      return new Datum({
        modelInput,
        lossFnInputs: { target_tokens: lossFnInputs.target_tokens!, weights },
      });
    }),
  );
}

/** The backward pass's output, where `loss:sum` is the caller's loss; what was differentiated is `surrogate_loss:sum`. */
export function customOutput(
  output: ForwardBackwardOutput,
  { loss, metrics }: CustomLoss,
): ForwardBackwardOutput {
  return {
    ...output,
    metrics: {
      ...output.metrics,
      ...metrics,
      'loss:sum': loss,
      'surrogate_loss:sum': output.metrics['loss:sum']!,
    },
  };
}
