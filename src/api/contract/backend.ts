/**
 * The one seam between clients and engines. Three things implement it: the
 * local engine, the worker door to it, and (later) the remote service.
 *
 * Order: requests of one model run in the order of their calls. Every method
 * rejects with a `TinkerError`; after a rejection the state is as before.
 */
import type {
  AdamParamsPayload,
  ArchivePayload,
  CheckpointPayload,
  CheckpointsListPayload,
  CheckpointType,
  DatumPayload,
  EngineStats,
  ForwardBackwardPayload,
  LoraConfigPayload,
  LossFnName,
  ModelInfo,
  OnnxExportPayload,
  OptimStepPayload,
  ProgressEvent,
  SampledTokensPayload,
  SamplePayload,
  SamplingParamsPayload,
  ServerCapabilities,
  SessionPayload,
  StorageUsagePayload,
  TokenizerPayload,
  TrainingRunPayload,
  TrainingRunsPayload,
  WeightsInfoPayload,
} from './types';

/** What a call may be given beside its request. Over a worker these stay on the caller's side. */
export interface CallOptions {
  /**
   * Gives up. A request that waits is dropped as if it had never been made, sampling ends early,
   * loading a model stops if nobody else waits for it: these reject with `AbortedError`. A request
   * of a model that has started does not look at the signal: it finishes and resolves, so that an
   * `AbortedError` always means that the model is as it was.
   */
  readonly signal?: AbortSignal | undefined;
}

/** Of calls that may have to load a model first. */
export interface LoadCallOptions extends CallOptions {
  readonly onProgress?: ((event: ProgressEvent) => void) | undefined;
}

export interface SampleCallOptions extends CallOptions {
  /** called as tokens arrive, in order for each sequence, before the result */
  readonly onTokens?: ((event: SampledTokensPayload) => void) | undefined;
}

/** One `ServiceClient`: what its runs and samplers are filed under. */
export interface CreateSessionRequest {
  readonly userMetadata: Readonly<Record<string, string>>;
}

export interface CreateModelRequest {
  readonly sessionId: string;
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

export interface SaveWeightsRequest {
  readonly modelId: string;
  /** training: adapter, Adam moments and step count; sampler: the adapter alone */
  readonly checkpointType: CheckpointType;
  readonly name: string;
  /** seconds until it expires; null = never */
  readonly ttlSeconds: number | null;
  /** replace one of that name; else that is a 409 */
  readonly overwrite: boolean;
}

export interface LoadWeightsRequest {
  readonly modelId: string;
  /** of a training checkpoint */
  readonly path: string;
  /** also the moments and the step count; else they restart */
  readonly optimizer: boolean;
}

/** A sampler of a base model, of a saved adapter, or of a snapshot of a model's current one. */
export type CreateSamplerRequest =
  | { readonly kind: 'base'; readonly sessionId: string; readonly baseModel: string }
  | { readonly kind: 'checkpoint'; readonly sessionId: string; readonly modelPath: string }
  | { readonly kind: 'snapshot'; readonly modelId: string };

export interface SamplerInfo {
  readonly samplerId: string;
  readonly baseModel: string;
  /** null for a base model or a snapshot */
  readonly modelPath: string | null;
}

export interface SampleRequest {
  readonly samplerId: string;
  /** (P) token ids, P ≥ 1 */
  readonly prompt: readonly number[];
  readonly numSamples: number;
  readonly params: SamplingParamsPayload;
  readonly promptLogprobs: boolean;
  /** how many of the likeliest tokens to list at each place of the prompt; 0 = none */
  readonly topkPromptLogprobs: number;
}

export interface ExportOnnxRequest {
  readonly samplerId: string;
  /** weights of more bytes than this in all lie in files beside the graph; null: as the engine likes */
  readonly inlineBytes: number | null;
}

export interface PageRequest {
  readonly limit: number;
  readonly offset: number;
}

/** An adapter in PEFT's layout, made here or elsewhere. */
export interface ImportCheckpointRequest {
  readonly sessionId: string;
  /** a `.tar` of the folder, or its files by name (`adapter_config.json`, `adapter_model.safetensors`) */
  readonly source: Blob | Readonly<Record<string, Blob>>;
  /** of the checkpoint */
  readonly name: string;
  /** null: what `adapter_config.json` names */
  readonly baseModel: string | null;
}

export interface Backend {
  getServerCapabilities(): Promise<ServerCapabilities>;
  createSession(request: CreateSessionRequest): Promise<{ readonly sessionId: string }>;
  /** Loads the base model if need be, and makes an adapter on it. */
  createModel(request: CreateModelRequest, options?: LoadCallOptions): Promise<ModelInfo>;
  getInfo(modelId: string): Promise<ModelInfo>;
  getTokenizer(baseModel: string): Promise<TokenizerPayload>;
  forwardBackward(request: ForwardBackwardRequest, options?: CallOptions): Promise<ForwardBackwardPayload>;
  optimStep(request: OptimStepRequest, options?: CallOptions): Promise<OptimStepPayload>;
  /** Resolves when the checkpoint is safe; the model may train on meanwhile. */
  saveWeights(request: SaveWeightsRequest, options?: CallOptions): Promise<{ readonly path: string }>;
  /** Replaces the adapter and clears pending gradients. */
  loadWeights(request: LoadWeightsRequest, options?: CallOptions): Promise<{ readonly path: string }>;
  createSampler(request: CreateSamplerRequest, options?: LoadCallOptions): Promise<SamplerInfo>;
  getSampler(samplerId: string): Promise<SamplerInfo>;
  sample(request: SampleRequest, options?: SampleCallOptions): Promise<SamplePayload>;
  /** A sampler's model, its adapter merged in, as a folder for ONNX Runtime. */
  exportOnnx(request: ExportOnnxRequest, options?: LoadCallOptions): Promise<OnnxExportPayload>;
  unloadModel(modelId: string): Promise<void>;
  unloadSampler(samplerId: string): Promise<void>;

  /** Newest first. */
  listTrainingRuns(page: PageRequest): Promise<TrainingRunsPayload>;
  getTrainingRun(trainingRunId: string): Promise<TrainingRunPayload>;
  /** All of one run, newest first. */
  listCheckpoints(trainingRunId: string): Promise<CheckpointsListPayload>;
  /** Of all runs, newest first. */
  listUserCheckpoints(page: PageRequest): Promise<CheckpointsListPayload>;
  getWeightsInfo(path: string): Promise<WeightsInfoPayload>;
  deleteCheckpoint(path: string): Promise<void>;
  /** @param isPublic a flag; locally nobody else can see a checkpoint either way. 409 if it is so already */
  setCheckpointPublic(path: string, isPublic: boolean): Promise<void>;
  /** @param ttlSeconds from now; null = never */
  setCheckpointTtl(path: string, ttlSeconds: number | null): Promise<void>;
  getCheckpointArchive(path: string): Promise<ArchivePayload>;
  /** Files an adapter as a training checkpoint of a run of its own. */
  importCheckpoint(request: ImportCheckpointRequest): Promise<CheckpointPayload>;
  /** Ids, newest first. */
  listSessions(page: PageRequest): Promise<readonly string[]>;
  getSession(sessionId: string): Promise<SessionPayload>;
  getStorageUsage(): Promise<StorageUsagePayload>;

  stats(): Promise<EngineStats>;
  /** Ends the engine; pending calls reject. */
  dispose(): Promise<void>;
}
