/**
 * Plain data that crosses the `Backend` seam: structured-cloneable, no classes,
 * nothing optional that the engine would have to guess. The clients build these
 * from the friendlier types users see, and validate on the way.
 */

/** Element types of the service. int64 values travel as doubles, exact to 2^53. */
export type TensorDType = 'float32' | 'int64';

/** A dense tensor. */
export interface TensorPayload {
  readonly dtype: TensorDType;
  /** row-major */
  readonly shape: readonly number[];
  readonly data: Float32Array<ArrayBuffer> | Float64Array<ArrayBuffer>;
}

/** One training example: N input tokens and the tensors its loss needs, each of length N. */
export interface DatumPayload {
  /** (N) token ids the model reads */
  readonly tokens: readonly number[];
  /** loss inputs by wire name: `target_tokens`, `weights`, … */
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
  /** 0 = greedy */
  readonly temperature: number;
  /** −1 = off */
  readonly topK: number;
  /** 1 = off */
  readonly topP: number;
}

export interface ForwardBackwardPayload {
  readonly lossFnOutputType: string;
  /** per datum, by name; `logprobs` is (N) float32 */
  readonly lossFnOutputs: readonly Readonly<Record<string, TensorPayload>>[];
  /** keys are `name:reduction`, e.g. `loss:sum`, `clock_cycle:unique` */
  readonly metrics: Readonly<Record<string, number>>;
}

export interface OptimStepPayload {
  /** `grad_norm:mean`: global L2 norm of the gradient before clipping */
  readonly metrics: Readonly<Record<string, number>>;
}

export interface SampledSequencePayload {
  readonly stopReason: 'stop' | 'length';
  /** generated tokens, the stopping one included */
  readonly tokens: readonly number[];
  /** one per token, under the temperature-scaled distribution */
  readonly logprobs: readonly number[];
}

export interface SamplePayload {
  readonly sequences: readonly SampledSequencePayload[];
  /** (prompt length); entry 0 is null; entry i = log p(prompt[i] | prompt[<i]). Null when not asked for. */
  readonly promptLogprobs: readonly (number | null)[] | null;
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

export interface ServerCapabilities {
  readonly supportedModels: readonly SupportedModel[];
  /** what computes, e.g. `{ device: 'webgpu', adapter: 'google swiftshader', software: true }` */
  readonly device: { readonly kind: string; readonly adapter: string; readonly software: boolean };
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

/** What the engine has done and holds. */
export interface EngineStats {
  readonly device: ServerCapabilities['device'];
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
  readonly phase: 'download' | 'upload' | 'compile';
  readonly what: string;
  readonly loaded: number;
  readonly total: number;
}
