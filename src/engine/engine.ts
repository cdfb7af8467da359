/** The local engine: the `Backend` that computes on this machine. */
import type {
  Backend,
  CallOptions,
  CreateModelRequest,
  CreateSamplerRequest,
  CreateSessionRequest,
  ExportOnnxRequest,
  ForwardBackwardRequest,
  LoadCallOptions,
  LoadWeightsRequest,
  OptimStepRequest,
  SampleCallOptions,
  SampleRequest,
  SamplerInfo,
  SaveWeightsRequest,
} from '../api/contract/backend';
import { AbortedError, NotFoundError } from '../api/contract/errors';
import { LORA_ALPHA } from '../api/contract/lora';
import { checkCheckpointName } from '../api/contract/tinker-path';
import type {
  ChosenDevice,
  EngineStats,
  ForwardBackwardPayload,
  ModelInfo,
  OnnxExportPayload,
  OptimStepPayload,
  SamplePayload,
  ServerCapabilities,
  TokenizerPayload,
} from '../api/contract/types';
import {
  checkAdamParams,
  checkCreateModel,
  checkExportOnnx,
  checkForwardBackward,
  checkSample,
  checkUserMetadata,
} from '../api/contract/validate';
import { parameterCount, type DecoderConfig } from '../models/config';
import { loadConfig, type LoadOptions } from '../models/load';
import { knownModels } from '../models/sources';
import { checkFits, flatAdapter } from './adapter-state';
import type { BaseModel } from './base-model';
import { Bases, type ResolveModel } from './bases';
import type { Device, DeviceBuffer, DeviceOpener } from './devices/device';
import { chooseDevice, type DeviceWish } from './devices/select';
import { DeviceWatch } from './device-watch';
import { Ledger, NO_STORAGE, type Storage } from './ledger';
import { adapterLayout } from './program/adapter';
import { Records } from './records';
import { Samplers } from './samplers';
import { gaveUp, Scheduler, type Release } from './scheduler';
import type { SharedBase } from './shared-base';
import { prepareTraining, TrainingModel } from './training-model';
import { Turns, type Submitted } from './turns';

export interface EngineOptions {
  /** what there is to compute on */
  readonly devices: readonly DeviceOpener[];
  /** which of these; default: the best there is */
  readonly device?: DeviceWish;
  /** where models come from; default: the built-in ones */
  readonly resolveModel?: ResolveModel;
  /** how the files of built-in models are read; default: the global `fetch` */
  readonly fetch?: LoadOptions['fetch'];
  /** where checkpoints go; default: nowhere, and saving fails */
  readonly storage?: Storage;
}

/** A model that is trained, and the base it is on. */
interface Trained {
  readonly model: TrainingModel;
  readonly shared: SharedBase;
}

export class Engine extends Records implements Backend {
  readonly #watch: DeviceWatch;
  readonly #bases: Bases;
  readonly #files: Pick<LoadOptions, 'fetch'>;
  readonly #models = new Map<string, Trained>();
  readonly #samplers: Samplers;
  readonly #scheduler = new Scheduler();
  readonly #turns = new Turns();

  private constructor(
    /** for benchmarks and tests, too */
    readonly device: Device,
    private readonly reason: string,
    { resolveModel, fetch, storage = NO_STORAGE }: EngineOptions,
  ) {
    super(new Ledger(storage), (sessionId) => this.#samplers.ofSession(sessionId));
    this.#watch = new DeviceWatch(device);
    this.#files = fetch ? { fetch } : {};
    this.#bases = new Bases(device, resolveModel);
    this.#samplers = new Samplers(device, this.#scheduler, this.#turns);
  }

  /**
   * Opens a device.
   * @throws DeviceUnavailableError
   */
  static async create(options: EngineOptions): Promise<Engine> {
    const { device, reason } = await chooseDevice(options.devices, options.device ?? 'auto');
    return new Engine(device, reason, options);
  }

  async getServerCapabilities(): Promise<ServerCapabilities> {
    const supportedModels = await Promise.all(
      knownModels().map(async (modelName) => {
        const config = await loadConfig(modelName, this.#files);
        return {
          modelName,
          maxContextLength: config.maxPositionEmbeddings,
          parameters: parameterCount(config),
          vocabSize: config.vocabSize,
        };
      }),
    );
    return { supportedModels, device: this.#chosen(), storage: this.ledger.storage.kind };
  }

  async createSession({ userMetadata }: CreateSessionRequest): Promise<{ sessionId: string }> {
    checkUserMetadata(userMetadata);
    return { sessionId: this.ledger.addSession(userMetadata) };
  }

  async createModel(request: CreateModelRequest, options: LoadCallOptions = {}): Promise<ModelInfo> {
    checkCreateModel(request);
    const { sessionId, baseModel, userMetadata } = request;
    const id = this.ledger.nextId(sessionId, 'train');
    return this.#make(async () => {
      const { seed, ...shape } = request.lora;
      const prepare = (config: DecoderConfig): void => {
        // not awaited: shaders compile while weights load and the caller prepares its data; a failure shows again at the first step
        prepareTraining(this.device, config, adapterLayout(config, shape)).catch(() => undefined);
      };
      const shared = await this.#bases.get(baseModel, options, prepare);
      const { base } = shared;
      prepare(base.config);
      const layout = adapterLayout(base.config, shape);
      const fixed = seed ?? Math.floor(Math.random() * 2 ** 32);
      const model = await this.device.memory.allocate(
        'the adapter and its moments',
        () => new TrainingModel(id, base, layout, fixed, this.#turns),
      );
      shared.retain(layout);
      this.#models.set(id, { model, shared });
      const adapter = { baseModel: base.name, alpha: LORA_ALPHA, ...shape };
      this.ledger.addRun({ trainingRunId: id, sessionId, adapter, userMetadata });
      return this.#info(model);
    });
  }

  async getInfo(modelId: string): Promise<ModelInfo> {
    return this.#info(this.#model(modelId));
  }

  async getTokenizer(baseModel: string): Promise<TokenizerPayload> {
    return (await this.#bases.get(baseModel)).base.tokenizer;
  }

  async forwardBackward(
    request: ForwardBackwardRequest,
    { signal }: CallOptions = {},
  ): Promise<ForwardBackwardPayload> {
    const model = this.#model(request.modelId);
    checkForwardBackward(request, limitsOf(model.base));
    return this.#submit(model.id, () => model.forwardBackward(request, signal), signal);
  }

  async optimStep(
    { modelId, adamParams }: OptimStepRequest,
    { signal }: CallOptions = {},
  ): Promise<OptimStepPayload> {
    const model = this.#model(modelId);
    checkAdamParams(adamParams);
    return this.#submit(modelId, () => model.optimStep(adamParams, signal), signal);
  }

  async saveWeights(
    request: SaveWeightsRequest,
    { signal }: CallOptions = {},
  ): Promise<{ readonly path: string }> {
    const model = this.#model(request.modelId);
    checkCheckpointName(request.name);
    const save = async (): Promise<Submitted<{ readonly path: string }>> => {
      const { done } = await model.save(request.checkpointType === 'training');
      return { done: this.ledger.save(request, done) };
    };
    return this.#submit(model.id, save, signal);
  }

  async loadWeights(
    { modelId, path, optimizer }: LoadWeightsRequest,
    { signal }: CallOptions = {},
  ): Promise<{ readonly path: string }> {
    const model = this.#model(modelId);
    const load = async (): Promise<Submitted<{ readonly path: string }>> => {
      const saved = await this.ledger.load(path, 'training', optimizer);
      checkFits(saved.record.adapter, this.ledger.run(modelId).adapter);
      await model.restore(saved);
      return { done: Promise.resolve({ path }) };
    };
    return this.#submit(modelId, load, signal);
  }

  async createSampler(request: CreateSamplerRequest, options: LoadCallOptions = {}): Promise<SamplerInfo> {
    if (request.kind === 'snapshot') {
      const { model, shared } = this.#trained(request.modelId);
      const id = this.ledger.nextId(this.ledger.run(model.id).sessionId, 'sample');
      // the copy is taken at this request's place in the model's order: nothing of the model runs before it is queued
      const add = async (): Promise<Submitted<SamplerInfo>> => {
        const source = { layout: model.layout, copy: () => model.snapshot() };
        return { done: Promise.resolve(await this.#samplers.add(id, shared, source, null)) };
      };
      return this.#make(() => this.#submit(model.id, add, options.signal));
    }
    const id = this.ledger.nextId(request.sessionId, 'sample');
    if (request.kind === 'base') {
      return this.#make(async () => {
        const shared = await this.#bases.get(request.baseModel, options);
        return this.#samplers.add(id, shared, null, null);
      });
    }
    const { modelPath } = request;
    return this.#make(async () => {
      const saved = await this.ledger.load(modelPath, 'sampler', false);
      const { adapter } = saved.record;
      const shared = await this.#bases.get(adapter.baseModel, options);
      const layout = adapterLayout(shared.base.config, adapter);
      const flat = flatAdapter(layout, saved);
      const copy = (): DeviceBuffer => this.device.memory.upload(`${id}.params`, flat);
      if (options.signal?.aborted) throw gaveUp(options.signal);
      return this.#samplers.add(id, shared, { layout, copy }, modelPath);
    });
  }

  async getSampler(samplerId: string): Promise<SamplerInfo> {
    return this.#samplers.info(samplerId);
  }

  async sample(request: SampleRequest, options: SampleCallOptions = {}): Promise<SamplePayload> {
    this.#watch.checkOpen();
    const sampler = this.#samplers.get(request.samplerId);
    checkSample(request, limitsOf(sampler.base));
    return this.#watch.guard(() =>
      this.#scheduler.run(sampler.id, () => sampler.sample(request, options), options.signal),
    );
  }

  async exportOnnx(request: ExportOnnxRequest, options: LoadCallOptions = {}): Promise<OnnxExportPayload> {
    this.#watch.checkOpen();
    const sampler = this.#samplers.get(request.samplerId);
    checkExportOnnx(request);
    const write = async (release: Release): Promise<OnnxExportPayload> => {
      // loaded by those alone who export
      const { exportSampler } = await import('./exporter');
      return exportSampler(sampler, request, options, release);
    };
    return this.#watch.guard(() => this.#scheduler.run(sampler.id, write, options.signal));
  }

  async unloadModel(modelId: string): Promise<void> {
    const { model, shared } = this.#trained(modelId);
    this.#models.delete(modelId);
    const reason = new AbortedError(`model ${modelId} was unloaded before this request was done`);
    this.#scheduler.clear(modelId, reason);
    model.abandon(reason);
    await this.#scheduler.run(modelId, async () => {
      model.dispose();
      this.ledger.endRun(modelId);
      await shared.release(model.layout);
    });
  }

  async unloadSampler(samplerId: string): Promise<void> {
    this.#watch.checkOpen();
    return this.#samplers.remove(samplerId);
  }

  async stats(): Promise<EngineStats> {
    return {
      device: this.#chosen(),
      ...this.device.counters,
      models: this.#models.size,
      samplers: this.#samplers.count,
    };
  }

  async dispose(): Promise<void> {
    this.#watch.end();
    this.#scheduler.dispose();
    this.#models.clear();
    this.#samplers.clear();
    this.#bases.clear();
    await this.device.dispose();
    await this.ledger.close();
  }

  /** For tests: adapter matrices by canonical name, A (r, in), B (out, r), after the calls so far. */
  debugGetAdapter(modelId: string): Promise<Map<string, Float32Array>> {
    return this.#scheduler.run(modelId, () => this.#model(modelId).read('params'));
  }

  /** For tests: overwrites adapter matrices. */
  debugSetAdapter(modelId: string, matrices: ReadonlyMap<string, Float32Array<ArrayBuffer>>): void {
    this.#model(modelId).write(matrices);
  }

  /** For tests: accumulated gradients by canonical name. */
  debugGetGradients(modelId: string): Promise<Map<string, Float32Array>> {
    return this.#scheduler.run(modelId, () => this.#model(modelId).read('grads'));
  }

  #chosen(): ChosenDevice {
    return { ...this.device.info, reason: this.reason };
  }

  #trained(id: string): Trained {
    this.#watch.checkOpen();
    const trained = this.#models.get(id);
    if (!trained) throw new NotFoundError(`unknown model ${id}`);
    return trained;
  }

  #model(id: string): TrainingModel {
    return this.#trained(id).model;
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

  /** Makes a client; one that the end of the engine overtook is none. */
  async #make<T>(job: () => Promise<T>): Promise<T> {
    const made = await this.#watch.guard(job);
    this.#watch.checkOpen();
    return made;
  }

  /** Submits in call order; the next request of the model is submitted before this one's results are back. */
  #submit<T>(modelId: string, job: () => Promise<Submitted<T>>, signal: AbortSignal | undefined): Promise<T> {
    const submit = async (release: Release): Promise<T> => {
      const { done } = await job();
      this.ledger.touch(modelId);
      release();
      return done;
    };
    return this.#watch.guard(() => this.#scheduler.run(modelId, submit, signal));
  }
}

const limitsOf = (base: BaseModel) => ({
  vocabSize: base.config.vocabSize,
  contextLength: base.contextLength,
});
