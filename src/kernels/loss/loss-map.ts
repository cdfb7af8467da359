/**
 * What every loss is: a map, element by element, from (logprob, inputs) to (loss, dL/dlogprob).
 *
 * An element is one target of one token: C of them, as many as tokens unless tokens have several targets.
 */
import { ceilDiv, kernel, spread, type BindingSpec, type ParamType } from '../kernel';
import { elements, op, sizeOf, type DType, type Op, type TensorRef } from '../op';
import { lossMapOnnx, type LossGraph, type LossTerm } from './loss-map.onnx';
import common from './loss-map.wgsl?raw';

/** A tensor that a loss reads beside the log-probabilities, one value an element. */
export interface LossInput {
  /** its key in `loss_fn_inputs` */
  readonly name: string;
  readonly dtype: DType;
}

/** logprob (C) f32 and, by name, the inputs of the loss, each (C). */
export type LossTensors = Readonly<Record<string, TensorRef>> & { readonly logprob: TensorRef };

export interface Loss {
  readonly inputs: readonly LossInput[];
  /**
   * → loss (C), each element's term of the sum, and d_logprob (C), the sum's derivative by its log-probability.
   * Both NaN where one of them, or the log-probability, is not a finite f32.
   */
  readonly op: Op<LossTensors, 'loss' | 'd_logprob', Readonly<Record<string, never>>>;
}

/** What the losses of reinforcement learning read: log-probabilities under the policy that sampled, and advantages. */
export const POLICY_INPUTS: readonly LossInput[] = [
  { name: 'logprobs', dtype: 'f32' },
  { name: 'advantages', dtype: 'f32' },
];

export interface LossMapSpec {
  readonly name: string;
  /** WGSL of `term` (see `loss-map.wgsl`) over the bindings of the inputs and the params of the settings. */
  readonly code: string;
  /** The same in a graph. */
  readonly term: (l: LossGraph) => LossTerm;
  readonly inputs: readonly LossInput[];
  /** Settings of the loss: f32 params, each the run value of the same name. */
  readonly config?: readonly string[];
}

/** Makes a loss of its map. */
export function lossMap({ name, code, term, inputs, config = [] }: LossMapSpec): Loss {
  const bindings: Record<string, BindingSpec> = { logprob: { elem: 'u32', access: 'read' } };
  for (const input of inputs) bindings[input.name] = { elem: input.dtype, access: 'read' };
  bindings.loss = { elem: 'u32', access: 'read_write' };
  bindings.d_logprob = { elem: 'u32', access: 'read_write' };
  const params: Record<string, ParamType> = { count: 'u32' };
  for (const setting of config) params[setting] = 'f32';
  const mapKernel = kernel({ name, code: code + common, bindings, params });

  return {
    inputs,
    op: op({
      name,
      outputs: ({ logprob }: LossTensors) => ({
        loss: { shape: logprob.shape, dtype: 'f32' },
        d_logprob: { shape: logprob.shape, dtype: 'f32' },
      }),
      webgpu: ({ inputs: read, outputs }) => {
        const { shape } = read.logprob;
        return [
          {
            kernel: mapKernel,
            bind: { ...read, ...outputs },
            params: (v) => ({
              count: elements(shape, v),
              ...Object.fromEntries(config.map((setting) => [setting, sizeOf(setting, v)])),
            }),
            grid: (v) => spread(ceilDiv(elements(shape, v), 64)),
          },
        ];
      },
      onnx: ({ inputs: read }, on) => lossMapOnnx(term, read, on),
    }),
  };
}
