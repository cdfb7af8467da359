/** What every loss is: a map, token by token, from (logprob, inputs) to (loss, dL/dlogprob). */
import { ceilDiv, kernel, spread, type BindingSpec, type ParamType } from '../kernel';
import { op, sizeOf, type DType, type Op, type TensorRef } from '../op';

/** A per-token tensor that a loss reads beside the log-probabilities. */
export interface LossInput {
  /** its key in `loss_fn_inputs` */
  readonly name: string;
  readonly dtype: DType;
}

/** logprob (T) f32 and, by name, the inputs of the loss, each (T). */
export type LossTensors = Readonly<Record<string, TensorRef>> & { readonly logprob: TensorRef };

export interface Loss {
  readonly inputs: readonly LossInput[];
  /** → loss (T), each token's term of the sum, and d_logprob (T), the sum's derivative by its log-probability. */
  readonly op: Op<LossTensors, 'loss' | 'd_logprob', Readonly<Record<string, never>>>;
}

export interface LossMapSpec {
  readonly name: string;
  /** WGSL over the bindings logprob, the inputs, loss, d_logprob; `params.count` is the number of tokens. */
  readonly code: string;
  readonly inputs: readonly LossInput[];
  /** Settings of the loss: f32 params, each the run value of the same name. */
  readonly config?: readonly string[];
}

/** Makes a loss of its WGSL map. */
export function lossMap({ name, code, inputs, config = [] }: LossMapSpec): Loss {
  const bindings: Record<string, BindingSpec> = { logprob: { elem: 'f32', access: 'read' } };
  for (const input of inputs) bindings[input.name] = { elem: input.dtype, access: 'read' };
  bindings.loss = { elem: 'f32', access: 'read_write' };
  bindings.d_logprob = { elem: 'f32', access: 'read_write' };
  const params: Record<string, ParamType> = { count: 'u32' };
  for (const setting of config) params[setting] = 'f32';
  const mapKernel = kernel({ name, code, bindings, params });

  return {
    inputs,
    op: op({
      name,
      outputs: ({ logprob }: LossTensors) => ({
        loss: { shape: logprob.shape, dtype: 'f32' },
        d_logprob: { shape: logprob.shape, dtype: 'f32' },
      }),
      webgpu: ({ inputs: read, outputs }) => {
        const T = read.logprob.shape[0]!;
        return [
          {
            kernel: mapKernel,
            bind: { ...read, ...outputs },
            params: (v) => ({
              count: sizeOf(T, v),
              ...Object.fromEntries(config.map((setting) => [setting, sizeOf(setting, v)])),
            }),
            grid: (v) => spread(ceilDiv(sizeOf(T, v), 64)),
          },
        ];
      },
    }),
  };
}
