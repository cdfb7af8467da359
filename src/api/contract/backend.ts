/**
 * The one seam between clients and engines. Three things implement it: the
 * local engine, the worker door to it, and (later) the remote service.
 *
 * Order: requests of one model run in the order of their calls. Every method
 * rejects with a `TinkerError`; after a rejection the state is as before.
 */
import type {
  AdamParamsPayload,
  DatumPayload,
  EngineStats,
  ForwardBackwardPayload,
  LoraConfigPayload,
  LossFnName,
  ModelInfo,
  OptimStepPayload,
  ProgressEvent,
  SamplePayload,
  SamplingParamsPayload,
  ServerCapabilities,
  TokenizerPayload,
} from './types';

export interface CreateModelRequest {
  readonly baseModel: string;
  readonly lora: LoraConfigPayload;
  readonly userMetadata: Readonly<Record<string, string>>;
}

export interface ForwardBackwardRequest {
  readonly modelId: string;
  readonly data: readonly DatumPayload[];
  readonly lossFn: LossFnName;
  readonly lossFnConfig: Readonly<Record<string, number>>;
  /** true: outputs only, no gradient */
  readonly forwardOnly: boolean;
}

export interface OptimStepRequest {
  readonly modelId: string;
  readonly adamParams: AdamParamsPayload;
}

/** A sampler of a base model, or of a snapshot of a model's current adapter. */
export type CreateSamplerRequest =
  | { readonly kind: 'base'; readonly baseModel: string }
  | { readonly kind: 'snapshot'; readonly modelId: string };

export interface SamplerInfo {
  readonly samplerId: string;
  readonly baseModel: string;
}

export interface SampleRequest {
  readonly samplerId: string;
  /** (P) token ids, P ≥ 1 */
  readonly prompt: readonly number[];
  readonly numSamples: number;
  readonly params: SamplingParamsPayload;
  readonly promptLogprobs: boolean;
}

export interface Backend {
  getServerCapabilities(): Promise<ServerCapabilities>;
  /** Loads the base model if need be, and makes an adapter on it. */
  createModel(request: CreateModelRequest, onProgress?: (event: ProgressEvent) => void): Promise<ModelInfo>;
  getInfo(modelId: string): Promise<ModelInfo>;
  getTokenizer(baseModel: string): Promise<TokenizerPayload>;
  forwardBackward(request: ForwardBackwardRequest): Promise<ForwardBackwardPayload>;
  optimStep(request: OptimStepRequest): Promise<OptimStepPayload>;
  createSampler(
    request: CreateSamplerRequest,
    onProgress?: (event: ProgressEvent) => void,
  ): Promise<SamplerInfo>;
  sample(request: SampleRequest): Promise<SamplePayload>;
  unloadModel(modelId: string): Promise<void>;
  unloadSampler(samplerId: string): Promise<void>;
  stats(): Promise<EngineStats>;
  /** Ends the engine; pending calls reject. */
  dispose(): Promise<void>;
}
