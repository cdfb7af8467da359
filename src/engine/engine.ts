/** The local engine: the `Backend` that computes on this machine's GPU. */
import type {
  Backend,
  CreateModelRequest,
  CreateSamplerRequest,
  CreateSessionRequest,
  ForwardBackwardRequest,
  LoadCallOptions,
  OptimStepRequest,
  SampleRequest,
  SamplerInfo,
} from '../api/contract/backend';
import { DeviceLostError, InternalServerError, NotFoundError, StorageError } from '../api/contract/errors';
import type {
  EngineStats,
  ForwardBackwardPayload,
  ModelInfo,
  OptimStepPayload,
  ProgressEvent,
  SamplePayload,
  ServerCapabilities,
  TokenizerPayload,
} from '../api/contract/types';
import {
  checkAdamParams,
  checkCreateModel,
  checkForwardBackward,
  checkSample,
} from '../api/contract/validate';
import { parameterCount } from '../models/config';
import { knownModels } from '../models/sources';
import type { DecoderConfig } from '../models/config';
import { loadConfig, loadModel, type LoadedModel, type LoadOptions } from '../models/load';
import type { LossName } from '../kernels/loss/index';
import { BaseModel } from './base-model';
import { DecodeContextPool } from './decode-context';
import { openContext } from './devices/webgpu/context';
import type { GpuContext } from './devices/webgpu/plan';
import { MergedWeights } from './merged-weights';
import { adapterLayout } from './program/adapter';
import { Sampler } from './sampler';
import { Scheduler } from './scheduler';
import { decoderOf, type Decode } from './tokenizer';
import { prepareTraining, TrainingModel, type Submitted } from './training-model';

export interface EngineOptions {
  /** which GPU; default `navigator.gpu` */
  readonly gpu?: GPU;
  /** where models come from; default: the built-in ones */
  readonly resolveModel?: (
    name: string,
    options: Pick<LoadOptions, 'onProgress' | 'onConfig'>,
  ) => Promise<LoadedModel>;
}

type Progress = ((event: ProgressEvent) => void) | undefined;

/** A base model with what its samplers share. */
interface Loaded {
  readonly base: BaseModel;
  readonly pool: DecodeContextPool;
  readonly decode: Decode;
  /** by adapter layout */
  readonly merged: Map<string, Promise<MergedWeights>>;
}

export class Engine implements Backend {
  readonly #bases = new Map<string, Promise<Loaded>>();
  readonly #models = new Map<string, TrainingModel>();
  readonly #samplers = new Map<string, Sampler>();
  readonly #scheduler = new Scheduler();
  #lost: DeviceLostError | undefined;
  /** an error the GPU reported and nobody asked for: results since then are not to be trusted */
  #fault: InternalServerError | undefined;
  readonly #sessions = new Map<string, { models: number; samplers: number }>();

  private constructor(
    private readonly context: GpuContext,
    private readonly options: EngineOptions,
  ) {
    void context.device.lost.then(({ reason, message }) => {
      if (reason === 'destroyed' && this.#disposed) return;
      this.#lost = new DeviceLostError(`The GPU was lost (${message || reason}); reload to start again.`);
    });
    context.device.addEventListener('uncapturederror', ({ error }) => {
      this.#fault ??= new InternalServerError(`The GPU refused a command: ${error.message}`);
    });
  }
  #disposed = false;

  /**
   * Opens the GPU.
   * @throws WebGPUUnavailableError
   */
  static async create(options: EngineOptions = {}): Promise<Engine> {
    return new Engine(await openContext(options.gpu), options);
  }

  async getServerCapabilities(): Promise<ServerCapabilities> {
    const supportedModels = await Promise.all(
      knownModels().map(async (modelName) => {
        const config = await loadConfig(modelName);
        return {
          modelName,
          maxContextLength: config.maxPositionEmbeddings,
          parameters: parameterCount(config),
          vocabSize: config.vocabSize,
        };
      }),
    );
    return { supportedModels, device: this.#device(), storage: 'memory' };
  }

  async createSession(_request: CreateSessionRequest): Promise<{ sessionId: string }> {
    const sessionId = crypto.randomUUID();
    this.#sessions.set(sessionId, { models: 0, samplers: 0 });
    return { sessionId };
  }

  async createModel(request: CreateModelRequest, { onProgress }: LoadCallOptions = {}): Promise<ModelInfo> {
    checkCreateModel(request);
    const session = this.#session(request.sessionId);
    return this.#guard(async () => {
      const { seed, ...shape } = request.lora;
      const prepare = (config: DecoderConfig): void => {
        // not awaited: shaders compile while weights load and the caller prepares its data; a failure shows again at the first step
        prepareTraining(this.context, config, adapterLayout(config, shape)).catch(() => undefined);
      };
      const { base } = await this.#base(request.baseModel, onProgress, prepare);
      prepare(base.config);
      const id = `${request.sessionId}:train:${session.models++}`;
      const layout = adapterLayout(base.config, shape);
      const model = await this.context.memory.allocate(
        'the adapter and its moments',
        () => new TrainingModel(id, base, layout, seed ?? Math.floor(Math.random() * 2 ** 32)),
      );
      this.#models.set(id, model);
      return this.#info(model);
    });
  }

  async getInfo(modelId: string): Promise<ModelInfo> {
    return this.#info(this.#model(modelId));
  }

  async getTokenizer(baseModel: string): Promise<TokenizerPayload> {
    return (await this.#base(baseModel)).base.tokenizer;
  }

  async forwardBackward(request: ForwardBackwardRequest): Promise<ForwardBackwardPayload> {
    const model = this.#model(request.modelId);
    checkForwardBackward(request, limitsOf(model.base));
    return this.#submit(model.id, () =>
      // the check above leaves only losses that have a kernel
      model.forwardBackward(request.data, request.lossFn as LossName, request.forwardOnly),
    );
  }

  async optimStep({ modelId, adamParams }: OptimStepRequest): Promise<OptimStepPayload> {
    const model = this.#model(modelId);
    checkAdamParams(adamParams);
    return this.#submit(modelId, () => model.optimStep(adamParams));
  }

  async saveWeights(): Promise<{ path: string }> {
    return this.#later();
  }

  async loadWeights(): Promise<{ path: string }> {
    return this.#later();
  }

  async createSampler(
    request: CreateSamplerRequest,
    { onProgress }: LoadCallOptions = {},
  ): Promise<SamplerInfo> {
    if (request.kind === 'checkpoint') return this.#later();
    const sessionId = request.kind === 'base' ? request.sessionId : request.modelId.split(':')[0]!;
    const id = `${sessionId}:sample:${this.#session(sessionId).samplers++}`;
    const sampler = await this.#guard(() =>
      request.kind === 'base'
        ? this.#baseSampler(id, request.baseModel, onProgress)
        : this.#scheduler.run(request.modelId, () => this.#snapshot(id, this.#model(request.modelId))),
    );
    this.#samplers.set(id, sampler);
    return this.getSampler(id);
  }

  async getSampler(samplerId: string): Promise<SamplerInfo> {
    const { base } = this.#sampler(samplerId);
    return { samplerId, baseModel: base.name, modelPath: null };
  }

  async sample(request: SampleRequest): Promise<SamplePayload> {
    const sampler = this.#sampler(request.samplerId);
    checkSample(request, limitsOf(sampler.base));
    return this.#guard(() => this.#scheduler.run(sampler.id, () => sampler.sample(request)));
  }

  async unloadModel(modelId: string): Promise<void> {
    const model = this.#model(modelId);
    this.#models.delete(modelId);
    await this.#scheduler.run(modelId, () => model.dispose());
  }

  async unloadSampler(samplerId: string): Promise<void> {
    const sampler = this.#sampler(samplerId);
    this.#samplers.delete(samplerId);
    await this.#scheduler.run(samplerId, () => sampler.dispose());
  }

  listTrainingRuns = () => this.#later();
  getTrainingRun = () => this.#later();
  listCheckpoints = () => this.#later();
  listUserCheckpoints = () => this.#later();
  getWeightsInfo = () => this.#later();
  deleteCheckpoint = () => this.#later();
  setCheckpointPublic = () => this.#later();
  setCheckpointTtl = () => this.#later();
  getCheckpointArchive = () => this.#later();
  importCheckpoint = () => this.#later();
  listSessions = () => this.#later();
  getSession = () => this.#later();
  getStorageUsage = () => this.#later();

  async #later(): Promise<never> {
    throw new StorageError('not there yet');
  }

  async stats(): Promise<EngineStats> {
    return {
      device: this.#device(),
      ...this.context.counters,
      models: this.#models.size,
      samplers: this.#samplers.size,
    };
  }

  async dispose(): Promise<void> {
    this.#disposed = true;
    this.#scheduler.dispose();
    this.#models.clear();
    this.#samplers.clear();
    this.#bases.clear();
    this.context.memory.dispose();
    this.context.device.destroy();
  }

  /** For tests: adapter matrices by canonical name, A (r, in), B (out, r). */
  debugGetAdapter(modelId: string): Promise<Map<string, Float32Array>> {
    return this.#model(modelId).read('params');
  }

  /** For tests: overwrites adapter matrices. */
  debugSetAdapter(modelId: string, matrices: ReadonlyMap<string, Float32Array<ArrayBuffer>>): void {
    this.#model(modelId).write(matrices);
  }

  /** For tests: accumulated gradients by canonical name. */
  debugGetGradients(modelId: string): Promise<Map<string, Float32Array>> {
    return this.#model(modelId).read('grads');
  }

  /** For benchmarks and tests: the GPU this engine runs on. */
  get gpu(): GpuContext {
    return this.context;
  }

  #device(): ServerCapabilities['device'] {
    const { profile } = this.context;
    return {
      kind: 'webgpu',
      adapter: [profile.vendor, profile.architecture].filter(Boolean).join(' ') || 'unknown',
      software: profile.kind === 'software',
    };
  }

  #model(id: string): TrainingModel {
    const model = this.#models.get(id);
    if (!model) throw new NotFoundError(`unknown model ${id}`);
    return model;
  }

  #sampler(id: string): Sampler {
    const sampler = this.#samplers.get(id);
    if (!sampler) throw new NotFoundError(`unknown sampler ${id}`);
    return sampler;
  }

  #session(id: string): { models: number; samplers: number } {
    const session = this.#sessions.get(id);
    if (!session) throw new NotFoundError(`unknown session ${id}`);
    return session;
  }

  #info({ id, base, layout }: TrainingModel): ModelInfo {
    return {
      modelId: id,
      modelData: { arch: base.config.modelType, modelName: base.name, tokenizerId: base.name },
      isLora: true,
      loraRank: layout.rank,
      modelName: base.name,
    };
  }

  /** Loads a base model once, however many ask for it. A failure is forgotten, so that a later call tries again. */
  #base(name: string, onProgress?: Progress, onConfig?: LoadOptions['onConfig']): Promise<Loaded> {
    let loaded = this.#bases.get(name);
    if (!loaded) {
      loaded = this.#load(name, onProgress, onConfig).catch((error: unknown) => {
        this.#bases.delete(name);
        throw error;
      });
      this.#bases.set(name, loaded);
    }
    return loaded;
  }

  async #load(name: string, onProgress: Progress, onConfig: LoadOptions['onConfig']): Promise<Loaded> {
    const resolve = this.options.resolveModel ?? loadModel;
    const model = await resolve(name, { ...(onProgress && { onProgress }), ...(onConfig && { onConfig }) });
    const base = await BaseModel.upload(this.context, model, onProgress);
    return {
      base,
      pool: new DecodeContextPool(base),
      decode: decoderOf(model.tokenizer),
      merged: new Map(),
    };
  }

  async #baseSampler(id: string, baseModel: string, onProgress: Progress): Promise<Sampler> {
    const { base, pool, decode } = await this.#base(baseModel, onProgress);
    return new Sampler(id, base, null, pool, decode);
  }

  async #snapshot(id: string, model: TrainingModel): Promise<Sampler> {
    const { base, pool, decode, merged } = await this.#base(model.base.name);
    const { layout } = model;
    let shared = merged.get(layout.key);
    if (!shared) {
      shared = MergedWeights.create(base, layout).catch((error: unknown) => {
        // the next request tries again
        merged.delete(layout.key);
        throw error;
      });
      merged.set(layout.key, shared);
    }
    const weights = await shared;
    // nothing of this model runs between: the queue is held until the copy is queued
    const params = await this.context.memory.allocate('the copy of an adapter', () => model.snapshot());
    return new Sampler(id, base, { layout, params, merged: weights }, pool, decode);
  }

  /** Submits in call order; the next request of the model is submitted before this one's results are back. */
  #submit<T>(modelId: string, job: () => Promise<Submitted<T>>): Promise<T> {
    return this.#guard(() =>
      this.#scheduler.run(modelId, async (release) => {
        const { done } = await job();
        release();
        return done;
      }),
    );
  }

  /** Failures after the GPU was lost are its loss; a result during which the GPU complained is none. */
  async #guard<T>(job: () => Promise<T>): Promise<T> {
    if (this.#lost) throw this.#lost;
    let result: T;
    try {
      result = await job();
    } catch (error) {
      throw this.#lost ?? this.#takeFault() ?? error;
    }
    const fault = this.#takeFault();
    if (fault) throw fault;
    return result;
  }

  #takeFault(): InternalServerError | undefined {
    const fault = this.#fault;
    this.#fault = undefined;
    return fault;
  }
}

const limitsOf = (base: BaseModel) => ({
  vocabSize: base.config.vocabSize,
  contextLength: base.contextLength,
});
