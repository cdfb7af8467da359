/** What calls of training and sampling answer. */
import type { SamplerInfo } from './contract/backend';
import type {
  ForwardBackwardPayload,
  ModelInfo,
  OptimStepPayload,
  SamplePayload,
  SampledSequencePayload,
  SampledTokensPayload,
  ServerCapabilities,
  SessionPayload,
  WeightsInfoPayload,
} from './contract/types';
import { TensorData } from './tensor-data';
import { TopkPromptLogprobs } from './topk-prompt-logprobs';

/** What a loss gives for one datum, by name. */
export type LossFnOutput = Readonly<Record<string, TensorData>>;

export interface ForwardBackwardOutput {
  readonly lossFnOutputType: string;
  /** per datum, by name; `logprobs` is float32 of the targets' shape, `(N)` or `(N, K)`: log p(target[t] | input[≤ t]) */
  readonly lossFnOutputs: readonly LossFnOutput[];
  /** keys are `name:reduction`; `loss:sum` is the loss over all tokens and datums, nats */
  readonly metrics: Readonly<Record<string, number>>;
}

/** `metrics['grad_norm:mean']` is the global L2 norm of the gradient before clipping. */
export type OptimStepResponse = OptimStepPayload;

/** One continuation: why it ended, its tokens (the stopping one included), and one log-probability for each. */
export type SampledSequence = SampledSequencePayload;

/** Tokens of one sequence, as they are sampled; `stopReason` comes with its last ones. */
export type SampledTokens = SampledTokensPayload;

export interface SampleResponse extends Omit<SamplePayload, 'topkPromptLogprobs'> {
  /** the likeliest tokens at each place of the prompt; null when not asked for */
  readonly topkPromptLogprobs: TopkPromptLogprobs | null;
}

export type GetInfoResponse = ModelInfo;
export type GetServerCapabilitiesResponse = ServerCapabilities;
export type WeightsInfoResponse = WeightsInfoPayload;
export type GetSessionResponse = SessionPayload;
export type GetSamplerResponse = SamplerInfo;

/** Ids, newest first. */
export interface ListSessionsResponse {
  readonly sessions: readonly string[];
}

/** `path` is `tinker://RUN/weights/NAME`. */
export interface SaveWeightsResponse {
  readonly path: string;
}

/** `path` is `tinker://RUN/sampler_weights/NAME`. */
export interface SaveWeightsForSamplerResponse {
  readonly path: string;
}

/** `path` is what was loaded. */
export interface LoadWeightsResponse {
  readonly path: string;
}

/** A model as the folder that transformers.js loads. */
export interface OnnxExport {
  /** by path in the folder: `config.json`, `onnx/model.onnx` … */
  readonly files: ReadonlyMap<string, Blob>;
  /** all of them as one uncompressed `.tar` */
  readonly archive: Blob;
}

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

/** @internal the answer as users see it */
export function sampleResponse(payload: SamplePayload): SampleResponse {
  const { topkPromptLogprobs: topk } = payload;
  return { ...payload, topkPromptLogprobs: topk && new TopkPromptLogprobs(topk) };
}
