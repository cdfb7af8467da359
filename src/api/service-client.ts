/** The entry: picks the engine and makes the clients that work on it. */
import type { Backend } from './contract/backend';
import { AbortedError, BadRequestError, UnsupportedError } from './contract/errors';
import { parseTinkerPath } from './contract/tinker-path';
import type { DeviceKind, EngineStats } from './contract/types';
import { checkCreateModel, checkUserMetadata } from './contract/validate';
import { BROWSER, LocalBackend, type Platform } from './local-backend';
import { checkNames } from './options';
import { LoraConfig, type LoraConfigInit } from './params';
import { checkAborted, type LoadOptions, type ProgressCallback } from './request';
import { RestClient } from './rest-client';
import type { GetServerCapabilitiesResponse } from './results';
import { SamplingClient, type SampledModel } from './sampling-client';
import { Session } from './session';
import { TrainingClient } from './training-client';

/** The model that comes with the library and needs no network. */
export const DEFAULT_BASE_MODEL = 'webtinker/pocket';

const DEVICES: readonly string[] = ['auto', 'webgpu', 'wasm', 'cpu'] satisfies (DeviceKind | 'auto')[];

export interface ServiceClientOptions {
  /** an engine of your own; default: one in a worker, started at the first call */
  readonly backend?: Backend;
  /**
   * What computes: `webgpu`, a GPU; `wasm`, ONNX Runtime as WebAssembly; `cpu`, ONNX Runtime as native code
   * (in Node). Default `auto`: a real GPU if there is one, else the best of the others.
   */
  readonly device?: DeviceKind | 'auto';
  /** In Node: the folder of checkpoints; default `checkpoints` in the folder `WEBTINKER_HOME` names, or `~/.webtinker`. */
  readonly store?: string | undefined;
  /** a remote service: not in this release */
  readonly baseUrl?: string;
  /** key of a remote service: not in this release */
  readonly apiKey?: string;
  /** filed with the session: strings by name */
  readonly userMetadata?: Readonly<Record<string, string>> | undefined;
  /** progress of everything long that this client starts */
  readonly onProgress?: ProgressCallback;
}

export interface CreateLoraTrainingClientOptions extends LoraConfigInit, LoadOptions {
  /**
   * a built-in model, or a Hugging Face folder: its URL (absolute, or `/path/` on the page's server), in Node also its
   * path; default: the embedded model
   */
  readonly baseModel?: string | undefined;
  /** filed with the training run: strings by name */
  readonly userMetadata?: Readonly<Record<string, string>> | undefined;
}

export interface CreateTrainingClientFromStateOptions extends LoadOptions {
  /** filed with the new training run: strings by name */
  readonly userMetadata?: Readonly<Record<string, string>> | undefined;
}

export interface CreateSamplingClientOptions extends SampledModel, LoadOptions {}

export class ServiceClient {
  readonly #options: ServiceClientOptions;
  readonly #platform: Platform;
  readonly #rests: RestClient[] = [];
  #session: Session | undefined;
  #disposed = false;

  /** Starts nothing yet: the engine starts at the first call, the session with the first client. */
  constructor(options?: ServiceClientOptions);
  /** @internal */
  constructor(options: ServiceClientOptions, platform: Platform);
  constructor(options: ServiceClientOptions = {}, platform: Platform = BROWSER) {
    checkNames('ServiceClient', options, [
      'userMetadata',
      'backend',
      'device',
      'store',
      'onProgress',
      'baseUrl',
      'apiKey',
    ]);
    if (options.baseUrl !== undefined || options.apiKey !== undefined) {
      throw new UnsupportedError('baseUrl and apiKey: the remote service comes with a later release');
    }
    const { device = 'auto', store } = options;
    if (!DEVICES.includes(device)) {
      throw new UnsupportedError(`device: must be one of ${DEVICES.join(', ')}; got '${String(device)}'`);
    }
    if (store !== undefined && !platform.folders) {
      throw new UnsupportedError('store: only in Node can checkpoints go to a folder; leave it out here');
    }
    if (store !== undefined && (typeof store !== 'string' || store === '')) {
      throw new BadRequestError(`store: must be the path of a folder, got ${JSON.stringify(store)}`);
    }
    checkUserMetadata(options.userMetadata ?? {});
    this.#options = options;
    this.#platform = platform;
  }

  #open(): Session {
    if (this.#disposed) throw new AbortedError('this ServiceClient is disposed');
    const { backend, userMetadata = {}, onProgress } = this.#options;
    return (this.#session ??= new Session(backend ?? this.#startEngine(), { userMetadata, onProgress }));
  }

  #startEngine(): Backend {
    const { device = 'auto', store = null } = this.#options;
    return new LocalBackend(this.#platform.start(), { device, store });
  }

  /** Models that can be trained and sampled, with their context lengths; what computes, and where checkpoints go. */
  async getServerCapabilities(): Promise<GetServerCapabilitiesResponse> {
    return this.#open().backend.getServerCapabilities();
  }

  /**
   * Makes a fresh LoRA adapter, equal to its base model until the first step.
   * @throws BadRequestError rank not a power of two up to 256, nothing to train; NotFoundError unknown model
   */
  async createLoraTrainingClient(options: CreateLoraTrainingClientOptions = {}): Promise<TrainingClient> {
    checkNames('createLoraTrainingClient', options, [
      'baseModel',
      'rank',
      'seed',
      'trainMlp',
      'trainAttn',
      'trainUnembed',
      'userMetadata',
      'onProgress',
      'signal',
    ]);
    const { baseModel = DEFAULT_BASE_MODEL, userMetadata = {}, onProgress, signal, ...lora } = options;
    const request = { baseModel, lora: { ...new LoraConfig(lora) }, userMetadata };
    checkCreateModel(request);
    checkAborted(signal, 'createLoraTrainingClient');
    const session = this.#open();
    const sessionId = await session.id();
    const loading = session.loading({ onProgress, signal });
    return new TrainingClient(session, await session.backend.createModel({ sessionId, ...request }, loading));
  }

  /**
   * Makes a training client of a saved adapter, with its base model, rank and trained parts. It is a
   * run of its own; the optimizer starts anew.
   * @param path `tinker://RUN/weights/NAME`
   * @throws BadRequestError malformed path, NotFoundError no such checkpoint, UnprocessableEntityError damaged
   */
  createTrainingClientFromState(
    path: string,
    options: CreateTrainingClientFromStateOptions = {},
  ): Promise<TrainingClient> {
    return this.#fromState(path, false, options);
  }

  /** Like `createTrainingClientFromState`, with the optimizer: training goes on as if it had never stopped. */
  createTrainingClientFromStateWithOptimizer(
    path: string,
    options: CreateTrainingClientFromStateOptions = {},
  ): Promise<TrainingClient> {
    return this.#fromState(path, true, options);
  }

  async #fromState(
    path: string,
    optimizer: boolean,
    options: CreateTrainingClientFromStateOptions,
  ): Promise<TrainingClient> {
    parseTinkerPath(path);
    checkNames('createTrainingClientFromState', options, ['userMetadata', 'onProgress', 'signal']);
    const session = this.#open();
    const { baseModel, ...shape } = await session.backend.getWeightsInfo(path);
    const { loraRank: rank, trainMlp, trainAttn, trainUnembed } = shape;
    const lora = { rank, trainMlp, trainAttn, trainUnembed };
    const client = await this.createLoraTrainingClient({ baseModel, ...lora, ...options });
    const { signal } = options;
    try {
      await (optimizer
        ? client.loadStateWithOptimizer(path, { signal })
        : client.loadState(path, { signal }));
      return client;
    } catch (error) {
      // the caller gets the reason; a model that cannot be unloaded either is no news
      await client.dispose().catch(() => undefined);
      throw error;
    }
  }

  /**
   * Makes a sampler of a base model, or of an adapter saved by `saveWeightsForSampler`.
   * @throws BadRequestError without a model; NotFoundError where there is none
   */
  async createSamplingClient(options: CreateSamplingClientOptions): Promise<SamplingClient> {
    checkNames('createSamplingClient', options, ['modelPath', 'baseModel', 'onProgress', 'signal']);
    return SamplingClient.create(this.#open(), options, options);
  }

  /** Makes a client of what is kept: runs, checkpoints, sessions. */
  createRestClient(): RestClient {
    const client = new RestClient(this.#open());
    this.#rests.push(client);
    return client;
  }

  /** What the engine has done and holds: launches, submits, bytes. */
  async stats(): Promise<EngineStats> {
    return this.#open().backend.stats();
  }

  /**
   * Frees what this client's clients hold. The engine it started ends, and pending calls reject; one
   * given as `backend` goes on without them.
   */
  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const rest of this.#rests) rest.dispose();
    if (this.#options.backend) await this.#session?.disposeClients();
    else await this.#session?.backend.dispose();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }
}
