/**
 * Plain data that crosses the `Backend` seam: structured-cloneable, no classes,
 * nothing optional that the engine would have to guess. The clients build these
 * from the friendlier types users see, and validate on the way.
 */

/** Element types of the service. int64 values travel as doubles, exact to 2^53. */
export type TensorDType = 'float32' | 'int64';

/** A tensor: dense, or, when `csr` is there, a matrix of which only the non-zeros are kept. */
export interface TensorPayload {
  readonly dtype: TensorDType;
  /** of the whole tensor */
  readonly shape: readonly number[];
  /** row-major; of a sparse matrix the non-zeros, row by row */
  readonly data: Float32Array<ArrayBuffer> | Float64Array<ArrayBuffer>;
  /** compressed sparse rows, for (R, C) */
  readonly csr?: {
    /** (R + 1): where each row's non-zeros start in `data`, and where the last ends */
    readonly crowIndices: readonly number[];
    /** (non-zeros): the column of each */
    readonly colIndices: readonly number[];
  };
}

/** One training example: N input tokens and the tensors its loss needs. */
export interface DatumPayload {
  /** (N) token ids the model reads */
  readonly tokens: readonly number[];
  /** loss inputs by wire name: `target_tokens`, `weights`, …; (N), or (N, K) where the loss takes that */
  readonly lossFnInputs: Readonly<Record<string, TensorPayload>>;
}

export type LossFnName = 'cross_entropy' | 'importance_sampling' | 'ppo' | 'cispo' | 'dro';

export interface LoraConfigPayload {
  /** a power of two, 1 … 256 */
  readonly rank: number;
  /** fixes the initial A matrices; null = random */
  readonly seed: number | null;
  readonly trainMlp: boolean;
  readonly trainAttn: boolean;
  readonly trainUnembed: boolean;
}

export interface AdamParamsPayload {
  readonly learningRate: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  /** decoupled: p ← p − lr·wd·p */
  readonly weightDecay: number;
  /** largest global L2 norm of the gradient; 0 = no clipping */
  readonly gradClipNorm: number;
}

export interface SamplingParamsPayload {
  /** null = up to the end of the context */
  readonly maxTokens: number | null;
  /** null = random */
  readonly seed: number | null;
  /** strings matched on the decoded text; sampling stops after the token that completes one */
  readonly stopStrings: readonly string[];
  /** token ids that end the sequence */
  readonly stopTokens: readonly number[];
  /** whether the model's own end-of-sequence tokens end it, too */
  readonly stopAtEos: boolean;
  /** 0 = greedy */
  readonly temperature: number;
  /** −1 = off */
  readonly topK: number;
  /** 1 = off */
  readonly topP: number;
}

export interface ForwardBackwardPayload {
  readonly lossFnOutputType: string;
  /** per datum, by name; `logprobs` is float32 of the shape of `target_tokens` */
  readonly lossFnOutputs: readonly Readonly<Record<string, TensorPayload>>[];
  /** keys are `name:reduction`, e.g. `loss:sum`, `clock_cycle:unique` */
  readonly metrics: Readonly<Record<string, number>>;
}

export interface OptimStepPayload {
  /** `grad_norm:mean`: global L2 norm of the gradient before clipping */
  readonly metrics: Readonly<Record<string, number>>;
}

/** At a stop or the model's own end of text, or because there was no room for more tokens. */
export type StopReason = 'stop' | 'length';

export interface SampledSequencePayload {
  readonly stopReason: StopReason;
  /** generated tokens, the stopping one included */
  readonly tokens: number[];
  /** one per token, under the temperature-scaled distribution */
  readonly logprobs: number[];
}

export interface SamplePayload {
  readonly sequences: readonly SampledSequencePayload[];
  /** (prompt length); entry 0 is null; entry i = log p(prompt[i] | prompt[<i]). Null when not asked for. */
  readonly promptLogprobs: readonly (number | null)[] | null;
  /** The likeliest tokens at each place of the prompt. Null when not asked for. */
  readonly topkPromptLogprobs: TopkPromptLogprobsPayload | null;
  /** prompt tokens whose computation was reused */
  readonly promptCacheHitTokens: number;
}

/** Row i: the k likeliest tokens at place i given those before it, likeliest first. Row 0 and empty cells are id 0, −99999. */
export interface TopkPromptLogprobsPayload {
  readonly k: number;
  /** (prompt length · k) */
  readonly tokenIds: Int32Array<ArrayBuffer>;
  /** (prompt length · k), at temperature 1 */
  readonly logprobs: Float32Array<ArrayBuffer>;
}

/** Tokens of one sequence that were just sampled. */
export interface SampledTokensPayload {
  /** index of the sequence in the request */
  readonly sequence: number;
  readonly tokens: number[];
  readonly logprobs: number[];
  /** set with the sequence's last tokens */
  readonly stopReason: StopReason | null;
}

export interface SupportedModel {
  readonly modelName: string;
  /** tokens */
  readonly maxContextLength: number;
  /** weights of the base model, without adapters */
  readonly parameters: number;
  /** distinct tokens */
  readonly vocabSize: number;
}

/** WebGPU; ONNX Runtime as WebAssembly; ONNX Runtime as native code. */
export type DeviceKind = 'webgpu' | 'wasm' | 'cpu';

/** A device, for people. */
export interface DeviceInfo {
  readonly kind: DeviceKind;
  /** e.g. `nvidia ampere`, `onnxruntime-web 1.31.0` */
  readonly adapter: string;
  /** WebGPU computed by the processor: right, and slow */
  readonly software: boolean;
  /** of the processor that it computes on; null on a GPU */
  readonly threads: number | null;
  /** how to get more out of this machine, e.g. how to allow threads; null: nothing to say */
  readonly advice: string | null;
}

/** The device that an engine chose. */
export interface ChosenDevice extends DeviceInfo {
  /** why this one and not another, in a sentence */
  readonly reason: string;
}

export interface ServerCapabilities {
  readonly supportedModels: readonly SupportedModel[];
  /** what computes */
  readonly device: ChosenDevice;
  /** where checkpoints go */
  readonly storage: StorageKind;
}

/** A place for checkpoints; what is in `memory` ends with the engine. */
export type StorageKind = 'opfs' | 'folder' | 'memory';

export type CheckpointType = 'training' | 'sampler';

/** A saved adapter. */
export interface CheckpointPayload {
  /** `weights/NAME` (training) or `sampler_weights/NAME` (sampler) */
  readonly checkpointId: string;
  readonly checkpointType: CheckpointType;
  /** when it was saved, ISO 8601 */
  readonly time: string;
  /** `tinker://RUN/weights/NAME` or `tinker://RUN/sampler_weights/NAME` */
  readonly tinkerPath: string;
  readonly sizeBytes: number;
  readonly public: boolean;
  /** ISO 8601; null = never */
  readonly expiresAt: string | null;
}

/** One adapter's life: made by `createModel`, known for as long as the store keeps it. */
export interface TrainingRunPayload {
  /** = the id of its model while that is loaded */
  readonly trainingRunId: string;
  readonly baseModel: string;
  readonly modelOwner: string;
  readonly isLora: boolean;
  readonly corrupted: boolean;
  readonly loraRank: number;
  /** ISO 8601 */
  readonly lastRequestTime: string;
  readonly lastCheckpoint: CheckpointPayload | null;
  readonly lastSamplerCheckpoint: CheckpointPayload | null;
  readonly userMetadata: Readonly<Record<string, string>>;
}

/** A page of a list. */
export interface CursorPayload {
  readonly offset: number;
  readonly limit: number;
  readonly totalCount: number;
}

export interface TrainingRunsPayload {
  readonly trainingRuns: readonly TrainingRunPayload[];
  readonly cursor: CursorPayload;
}

export interface CheckpointsListPayload {
  readonly checkpoints: readonly CheckpointPayload[];
  /** null where the list is not paged */
  readonly cursor: CursorPayload | null;
}

/** What a checkpoint was trained on, and what of it. */
export interface WeightsInfoPayload {
  readonly baseModel: string;
  readonly isLora: boolean;
  readonly loraRank: number;
  readonly trainUnembed: boolean;
  readonly trainMlp: boolean;
  readonly trainAttn: boolean;
}

/** A checkpoint's files as one `.tar`: the bytes themselves, or where to get them. */
export type ArchivePayload =
  | { readonly kind: 'blob'; readonly blob: Blob }
  | { readonly kind: 'url'; readonly url: string; /** ISO 8601 */ readonly expires: string };

/** A model as the files of a folder. */
export interface OnnxExportPayload {
  /** by path in the folder */
  readonly files: Readonly<Record<string, Blob>>;
  /** all of them as one uncompressed `.tar` */
  readonly archive: Blob;
}

export interface SessionPayload {
  readonly sessionId: string;
  readonly trainingRunIds: readonly string[];
  /** of samplers that live */
  readonly samplerIds: readonly string[];
}

/** What checkpoints take. */
export interface StorageUsagePayload {
  readonly kind: StorageKind;
  /** bytes of all checkpoints */
  readonly bytes: number;
  /** bytes per training run, largest first */
  readonly runs: readonly { readonly trainingRunId: string; readonly bytes: number }[];
  /** what the browser says this site uses and may use in all, bytes; null where nobody says */
  readonly estimate: { readonly usage: number; readonly quota: number } | null;
  /** whether the browser promised to keep it when space runs short; null where that is no question */
  readonly persisted: boolean | null;
}

export interface ModelInfo {
  readonly modelId: string;
  readonly modelData: { readonly arch: string; readonly modelName: string; readonly tokenizerId: string };
  readonly isLora: boolean;
  readonly loraRank: number;
  readonly modelName: string;
}

/** What a tokenizer is made of: the parsed `tokenizer.json` and `tokenizer_config.json`. */
export interface TokenizerPayload {
  readonly tokenizerJson: unknown;
  readonly tokenizerConfig: unknown;
}

/** A device that went away, and what the engine did about it. */
export interface RecoveryPayload {
  /** ISO 8601 */
  readonly time: string;
  readonly from: DeviceKind;
  readonly to: DeviceKind;
  /** what happened to the device */
  readonly reason: string;
  /** requests of training runs that were done again */
  readonly replayed: number;
}

/** What the engine has done and holds; counts are of the device in use, since it was opened. */
export interface EngineStats {
  readonly device: ChosenDevice;
  /** devices that went away, oldest first */
  readonly recoveries: readonly RecoveryPayload[];
  /** kernel launches since start */
  readonly dispatches: number;
  /** command buffers submitted since start */
  readonly submits: number;
  readonly bufferCreations: number;
  readonly bindGroupCreations: number;
  readonly pipelines: number;
  /** bytes of device memory held now, and the most so far */
  readonly bytes: number;
  readonly peakBytes: number;
  readonly models: number;
  readonly samplers: number;
}

/** Progress of long work such as loading a model. */
export interface ProgressEvent {
  readonly phase: 'download' | 'upload' | 'compile' | 'export';
  readonly what: string;
  readonly loaded: number;
  readonly total: number;
}
