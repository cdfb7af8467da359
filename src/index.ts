/** webtinker: the Tinker fine-tuning API on a local engine. */
export { ServiceClient, DEFAULT_BASE_MODEL } from './api/service-client';
export type {
  CreateLoraTrainingClientOptions,
  CreateSamplingClientOptions,
  CreateTrainingClientFromStateOptions,
  ServiceClientOptions,
} from './api/service-client';
export {
  TrainingClient,
  type CustomLossOptions,
  type LossFnConfig,
  type SaveStateOptions,
  type SaveWeightsOptions,
} from './api/training-client';
export type { CustomLoss, CustomLossFn } from './api/custom-loss';
export { SamplingClient, type ExportOnnxOptions, type SampleOptions } from './api/sampling-client';
export type { SampleStream } from './api/sample-stream';
export { RestClient, type ImportCheckpointOptions } from './api/rest-client';
export type { LoadOptions, ProgressCallback, RequestOptions } from './api/request';
export { APIFuture, type ResultOptions } from './api/future';
export { ModelInput } from './api/model-input';
export {
  EncodedTextChunk,
  ImageAssetPointerChunk,
  ImageChunk,
  type ImageFormat,
  type ModelInputChunk,
  type ModelInputChunkInit,
} from './api/chunks';
export { TensorData, type NestedNumbers, type TensorDataInit, type TensorLike } from './api/tensor-data';
export { Datum, type DatumInit, type LossFnInputs } from './api/datum';
export {
  AdamParams,
  LoraConfig,
  SamplingParams,
  type AdamParamsInit,
  type LoraConfigInit,
  type SamplingParamsInit,
  type Stop,
} from './api/params';
export type {
  ForwardBackwardOutput,
  GetInfoResponse,
  GetSamplerResponse,
  GetServerCapabilitiesResponse,
  GetSessionResponse,
  ListSessionsResponse,
  LoadWeightsResponse,
  LossFnOutput,
  OnnxExport,
  OptimStepResponse,
  SampledSequence,
  SampledTokens,
  SampleResponse,
  SaveWeightsForSamplerResponse,
  SaveWeightsResponse,
  WeightsInfoResponse,
} from './api/results';
export { TopkPromptLogprobs, type TokenLogprob } from './api/topk-prompt-logprobs';
export type {
  Checkpoint,
  CheckpointArchiveUrlResponse,
  CheckpointsListResponse,
  Cursor,
  Page,
  StorageUsage,
  TrainingRun,
  TrainingRunsResponse,
} from './api/runs';
export { ParsedCheckpointTinkerPath } from './api/tinker-path';
export type { Tokenizer } from './api/tokenizer';
export type { Backend } from './api/contract/backend';
export type {
  CheckpointType,
  ChosenDevice,
  DeviceKind,
  EngineStats,
  LossFnName,
  ProgressEvent,
  RecoveryPayload as Recovery,
  StopReason,
  StorageKind,
  SupportedModel,
  TensorDType,
} from './api/contract/types';
export {
  AbortedError,
  APIConnectionError,
  APIError,
  APIResponseValidationError,
  APIStatusError,
  APITimeoutError,
  AuthenticationError,
  BadRequestError,
  BillingError,
  ConflictError,
  DeviceLostError,
  DeviceUnavailableError,
  InternalServerError,
  NotFoundError,
  OutOfMemoryError,
  PermissionDeniedError,
  RateLimitError,
  RequestFailedError,
  StorageError,
  StorageFullError,
  TinkerError,
  UnprocessableEntityError,
  UnsupportedError,
  WebGPUUnavailableError,
  WorkerDiedError,
} from './api/contract/errors';
