/** webtinker: the Tinker fine-tuning API on a local engine. */
export { ServiceClient, DEFAULT_BASE_MODEL } from './api/service-client';
export type {
  CreateLoraTrainingClientOptions,
  CreateSamplingClientOptions,
  ProgressCallback,
  ServiceClientOptions,
} from './api/service-client';
export { TrainingClient, type LossFnConfig } from './api/training-client';
export { SamplingClient, type SampleOptions } from './api/sampling-client';
export { APIFuture, type ResultOptions } from './api/future';
export { ModelInput, type EncodedTextChunk, type ModelInputChunk } from './api/model-input';
export { TensorData, type NestedNumbers, type TensorLike } from './api/tensor-data';
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
  GetServerCapabilitiesResponse,
  OptimStepResponse,
  SampledSequence,
  SampleResponse,
} from './api/results';
export type { Tokenizer } from './api/tokenizer';
export type { Backend } from './api/contract/backend';
export type { EngineStats, LossFnName, ProgressEvent, TensorDType } from './api/contract/types';
export {
  AbortedError,
  APIConnectionError,
  APIError,
  APIResponseValidationError,
  APIStatusError,
  APITimeoutError,
  AuthenticationError,
  BadRequestError,
  ConflictError,
  DeviceLostError,
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
