/** What calls answer. */
import type {
  ForwardBackwardPayload,
  ModelInfo,
  OptimStepPayload,
  SamplePayload,
  SampledSequencePayload,
  ServerCapabilities,
} from './contract/types';
import { TensorData } from './tensor-data';

export interface ForwardBackwardOutput {
  readonly lossFnOutputType: string;
  /** per datum, by name; `logprobs` is `(N)` float32: log p(target[t] | input[≤ t]) */
  readonly lossFnOutputs: readonly Readonly<Record<string, TensorData>>[];
  /** keys are `name:reduction`; `loss:sum` is the loss over all tokens and datums, nats */
  readonly metrics: Readonly<Record<string, number>>;
}

export type OptimStepResponse = OptimStepPayload;
export type SampledSequence = SampledSequencePayload;
export type SampleResponse = SamplePayload;
export type GetInfoResponse = ModelInfo;
export type GetServerCapabilitiesResponse = ServerCapabilities;

/** @internal the answer as users see it */
export function forwardBackwardOutput(payload: ForwardBackwardPayload): ForwardBackwardOutput {
  return {
    lossFnOutputType: payload.lossFnOutputType,
    lossFnOutputs: payload.lossFnOutputs.map((outputs) =>
      Object.fromEntries(Object.entries(outputs).map(([name, tensor]) => [name, new TensorData(tensor)])),
    ),
    metrics: payload.metrics,
  };
}
