/** The entry: picks the engine and makes the clients that work on it. */
import type { Backend } from './contract/backend';
import { AbortedError, BadRequestError, UnsupportedError } from './contract/errors';
import type { EngineStats, ProgressEvent } from './contract/types';
import { checkCreateModel } from './contract/validate';
import { LocalBackend } from './local-backend';
import { LoraConfig, type LoraConfigInit } from './params';
import type { GetServerCapabilitiesResponse } from './results';
import { SamplingClient } from './sampling-client';
import { TrainingClient } from './training-client';

/** The model that comes with the library and needs no network. */
export const DEFAULT_BASE_MODEL = 'webtinker/pocket';

export type ProgressCallback = (event: ProgressEvent) => void;

export interface ServiceClientOptions {
  /** an engine of your own; default: one in a Web Worker, started at the first call */
  readonly backend?: Backend;
  /** what computes */
  readonly device?: 'webgpu';
  /** a remote service: not in this release */
  readonly baseUrl?: string;
  /** key of a remote service: not in this release */
  readonly apiKey?: string;
  /** progress of everything long that this client starts */
  readonly onProgress?: ProgressCallback;
}

export interface CreateLoraTrainingClientOptions extends LoraConfigInit {
  /** a built-in model, or the URL of a Hugging Face folder (absolute, or `/path/` on the page's server); default: the embedded model */
  readonly baseModel?: string;
  readonly userMetadata?: Readonly<Record<string, string>>;
  readonly onProgress?: ProgressCallback;
}

export interface CreateSamplingClientOptions {
  readonly baseModel?: string;
  /** `tinker://…` checkpoint: not in this release */
  readonly modelPath?: string;
  readonly onProgress?: ProgressCallback;
}

export class ServiceClient {
  readonly #options: ServiceClientOptions;
  #backend: Backend | undefined;
  #disposed = false;

  constructor(options: ServiceClientOptions = {}) {
    if (options.baseUrl !== undefined || options.apiKey !== undefined) {
      throw new UnsupportedError('baseUrl and apiKey: the remote service comes with a later release');
    }
    if (options.device !== undefined && options.device !== 'webgpu') {
      throw new UnsupportedError(
        `device: only 'webgpu' is there in this release, got '${String(options.device)}'`,
      );
    }
    this.#options = options;
    this.#backend = options.backend;
  }

  #open(): Backend {
    if (this.#disposed) throw new AbortedError('this ServiceClient is disposed');
    return (this.#backend ??= new LocalBackend());
  }

  /** Models that can be trained and sampled, with their context lengths; and what computes. */
  async getServerCapabilities(): Promise<GetServerCapabilitiesResponse> {
    return this.#open().getServerCapabilities();
  }

  /**
   * Makes a fresh LoRA adapter, equal to its base model until the first step.
   * @throws BadRequestError rank not a power of two up to 256, nothing to train, unknown model
   */
  async createLoraTrainingClient(options: CreateLoraTrainingClientOptions = {}): Promise<TrainingClient> {
    const { baseModel = DEFAULT_BASE_MODEL, userMetadata = {}, onProgress, ...lora } = options;
    const request = { baseModel, lora: { ...new LoraConfig(lora) }, userMetadata };
    checkCreateModel(request);
    const backend = this.#open();
    const info = await backend.createModel(request, onProgress ?? this.#options.onProgress);
    return new TrainingClient(backend, info);
  }

  /**
   * Makes a sampler of a base model.
   * @throws BadRequestError without a model, UnsupportedError for `modelPath`
   */
  async createSamplingClient({
    baseModel,
    modelPath,
    onProgress,
  }: CreateSamplingClientOptions): Promise<SamplingClient> {
    if (modelPath !== undefined) {
      throw new UnsupportedError('model_path: saved checkpoints come with a later release; use baseModel');
    }
    if (!baseModel) throw new BadRequestError('base_model is required');
    const backend = this.#open();
    const progress = onProgress ?? this.#options.onProgress;
    return new SamplingClient(backend, await backend.createSampler({ kind: 'base', baseModel }, progress));
  }

  /** What the engine has done and holds: launches, submits, bytes. */
  async stats(): Promise<EngineStats> {
    return this.#open().stats();
  }

  /** Ends the engine that this client started (not one given as `backend`); pending calls reject. */
  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    if (!this.#options.backend) await this.#backend?.dispose();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }
}
