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
import { AbortedError, NotFoundError, type TinkerError } from '../api/contract/errors';
import { LORA_ALPHA } from '../api/contract/lora';
import { checkCheckpointName } from '../api/contract/tinker-path';
import type {
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
import type { SavedAdapter } from '../checkpoints/catalog-types';
import { parameterCount, type DecoderConfig } from '../models/config';
import { loadConfig, type LoadOptions } from '../models/load';
import { knownModels } from '../models/sources';
import { checkFits, flatAdapter } from './adapter-state';
import type { BaseModel } from './base-model';
import { Bases, type ResolveModel } from './bases';
import type { Device, DeviceOpener } from './devices/device';
import type { DeviceWish } from './devices/select';
import type { Job } from './journal';
import { Ledger, NO_STORAGE, type Storage } from './ledger';
import { adapterLayout } from './program/adapter';
import { Records } from './records';
import { DeviceHost, disposed, type Epoch } from './recovery';
import { Samplers } from './samplers';
import { gaveUp, Scheduler, type Release } from './scheduler';
import type { SharedBase } from './shared-base';
import { TokenStream } from './token-stream';
import { prepareTraining, TrainingModel } from './training-model';

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
  readonly #host: DeviceHost;
  readonly #bases: Bases;
  readonly #files: Pick<LoadOptions, 'fetch'>;
  readonly #models = new Map<string, Trained>();
  /** those on the device: also ones that are being unloaded */
  readonly #living = new Set<TrainingModel>();
  readonly #samplers: Samplers;
  readonly #scheduler = new Scheduler();

  private constructor(host: DeviceHost, { resolveModel, fetch, storage = NO_STORAGE }: EngineOptions) {
    super(new Ledger(storage), (sessionId) => this.#samplers.ofSession(sessionId));
    this.#host = host;
    host.owner = {
      replace: (epoch) => this.#replace(epoch),
      giveUp: (reason) => this.#fail(reason),
    };
    this.#files = fetch ? { fetch } : {};
    this.#bases = new Bases(host, resolveModel);
    this.#samplers = new Samplers(this.#scheduler);
  }

  /**
   * Opens a device.
   * @throws DeviceUnavailableError
   */
  static async create(options: EngineOptions): Promise<Engine> {
    return new Engine(await DeviceHost.open(options.devices, options.device ?? 'auto'), options);
  }

  /** For benchmarks and tests: what it computes on now. */
  get device(): Device {
    return this.#host.device;
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
    return { supportedModels, device: this.#host.chosen(), storage: this.ledger.storage.kind };
  }

  async createSession({ userMetadata }: CreateSessionRequest): Promise<{ sessionId: string }> {
    checkUserMetadata(userMetadata);
    return { sessionId: this.ledger.addSession(userMetadata) };
  }

  async createModel(request: CreateModelRequest, options: LoadCallOptions = {}): Promise<ModelInfo> {
    checkCreateModel(request);
    const { sessionId, baseModel, userMetadata } = request;
    const id = this.ledger.nextId(sessionId, 'train');
    const { seed, ...shape } = request.lora;
    const fixed = seed ?? Math.floor(Math.random() * 2 ** 32);
    return this.#make(async (epoch) => {
      const prepare = (config: DecoderConfig): void => {
        // not awaited: shaders compile while weights load and the caller prepares its data; a failure shows again at the first step
        prepareTraining(epoch.device, config, adapterLayout(config, shape)).catch(() => undefined);
      };
      const shared = await this.#bases.get(baseModel, options, prepare);
      const { base } = shared;
      prepare(base.config);
      const layout = adapterLayout(base.config, shape);
      const model = new TrainingModel(id, shared, layout, fixed, this.#host);
      await model.place(epoch);
      epoch.check();
      shared.retain(layout);
      this.#models.set(id, { model, shared });
      this.#living.add(model);
      const adapter = { baseModel: base.name, alpha: LORA_ALPHA, ...shape };
      this.ledger.addRun({ trainingRunId: id, sessionId, adapter, userMetadata });
      return this.#info(model);
    });
  }

  async getInfo(modelId: string): Promise<ModelInfo> {
    return this.#info(this.#model(modelId));
  }

  async getTokenizer(baseModel: string): Promise<TokenizerPayload> {
    return this.#make(async () => (await this.#bases.get(baseModel)).base.tokenizer);
  }

  async forwardBackward(
    request: ForwardBackwardRequest,
    { signal }: CallOptions = {},
  ): Promise<ForwardBackwardPayload> {
    const model = this.#model(request.modelId);
    checkForwardBackward(request, limitsOf(model.base));
    return this.#submit(model, () => model.forwardBackward(request, signal), signal);
  }

  async optimStep(
    { modelId, adamParams }: OptimStepRequest,
    { signal }: CallOptions = {},
  ): Promise<OptimStepPayload> {
    const model = this.#model(modelId);
    checkAdamParams(adamParams);
    return this.#submit(model, () => model.optimStep(adamParams, signal), signal);
  }

  async saveWeights(
    request: SaveWeightsRequest,
    { signal }: CallOptions = {},
  ): Promise<{ readonly path: string }> {
    const model = this.#model(request.modelId);
    checkCheckpointName(request.name);
    const optimizer = request.checkpointType === 'training';
    const { adapter } = this.ledger.run(model.id);
    const save = () => model.save(optimizer, (state) => this.ledger.save(request, adapter, state));
    return this.#submit(model, save, signal);
  }

  async loadWeights(
    { modelId, path, optimizer }: LoadWeightsRequest,
    { signal }: CallOptions = {},
  ): Promise<{ readonly path: string }> {
    const model = this.#model(modelId);
    const load = async (): Promise<SavedAdapter> => {
      const saved = await this.ledger.load(path, 'training', optimizer);
      checkFits(saved.record.adapter, this.ledger.run(modelId).adapter);
      return saved;
    };
    await this.#submit(model, () => model.restore(load), signal);
    return { path };
  }

  async createSampler(request: CreateSamplerRequest, options: LoadCallOptions = {}): Promise<SamplerInfo> {
    if (request.kind === 'snapshot') {
      const { model, shared } = this.#trained(request.modelId);
      const id = this.ledger.nextId(this.ledger.run(model.id).sessionId, 'sample');
      const params = await this.#submit(model, () => model.snapshot(), options.signal);
      const adapter = { layout: model.layout, params };
      return this.#make((epoch) => this.#samplers.add(epoch, id, shared, adapter, null));
    }
    const id = this.ledger.nextId(request.sessionId, 'sample');
    if (request.kind === 'base') {
      return this.#make(async (epoch) => {
        const shared = await this.#bases.get(request.baseModel, options);
        return this.#samplers.add(epoch, id, shared, null, null);
      });
    }
    const { modelPath } = request;
    return this.#make(async (epoch) => {
      const saved = await this.ledger.load(modelPath, 'sampler', false);
      const { adapter } = saved.record;
      const shared = await this.#bases.get(adapter.baseModel, options);
      const layout = adapterLayout(shared.base.config, adapter);
      const params = flatAdapter(layout, saved);
      if (options.signal?.aborted) throw gaveUp(options.signal);
      return this.#samplers.add(epoch, id, shared, { layout, params }, modelPath);
    });
  }

  async getSampler(samplerId: string): Promise<SamplerInfo> {
    return this.#samplers.info(samplerId);
  }

  async sample(request: SampleRequest, options: SampleCallOptions = {}): Promise<SamplePayload> {
    this.#host.checkOpen();
    const sampler = this.#samplers.get(request.samplerId);
    checkSample(request, limitsOf(sampler.base));
    const { signal, onTokens } = options;
    const seed = request.params.seed ?? Math.floor(Math.random() * Number.MAX_SAFE_INTEGER);
    const seeded = { ...request, params: { ...request.params, seed } };
    const stream = onTokens && new TokenStream(onTokens);
    const run = (): Promise<SamplePayload> =>
      this.#host.use(() => sampler.sample(seeded, { signal, onTokens: stream?.again() }));
    return this.#scheduler.run(sampler.id, run, signal);
  }

  async exportOnnx(request: ExportOnnxRequest, options: LoadCallOptions = {}): Promise<OnnxExportPayload> {
    this.#host.checkOpen();
    const sampler = this.#samplers.get(request.samplerId);
    checkExportOnnx(request);
    const write = async (release: Release): Promise<OnnxExportPayload> => {
      // loaded by those alone who export
      const { exportSampler } = await import('./exporter');
      return this.#host.use(() => exportSampler(sampler, request, options, release));
    };
    return this.#scheduler.run(sampler.id, write, options.signal);
  }

  async unloadModel(modelId: string): Promise<void> {
    const { model, shared } = this.#trained(modelId);
    this.#models.delete(modelId);
    const reason = new AbortedError(`model ${modelId} was unloaded before this request was done`);
    this.#scheduler.clear(modelId, reason);
    model.abandon(reason);
    await this.#scheduler.run(modelId, async () => {
      await this.#host.settled();
      this.#living.delete(model);
      model.dispose();
      this.ledger.endRun(modelId);
      await shared.release(model.layout);
    });
  }

  async unloadSampler(samplerId: string): Promise<void> {
    this.#host.checkOpen();
    return this.#samplers.remove(samplerId, () => this.#host.settled());
  }

  async stats(): Promise<EngineStats> {
    return {
      device: this.#host.chosen(),
      recoveries: [...this.#host.recoveries],
      ...this.device.counters,
      models: this.#models.size,
      samplers: this.#samplers.count,
    };
  }

  async dispose(): Promise<void> {
    const ended = this.#host.dispose();
    this.#scheduler.dispose();
    this.#fail(disposed());
    this.#models.clear();
    this.#living.clear();
    this.#samplers.clear();
    this.#bases.clear();
    await ended;
    await this.ledger.close();
  }

  /** For tests: adapter matrices by canonical name, A (r, in), B (out, r), after the calls so far. */
  debugGetAdapter(modelId: string): Promise<Map<string, Float32Array>> {
    return this.#debugRead(modelId, 'params');
  }

  /** For tests: overwrites adapter matrices. */
  debugSetAdapter(modelId: string, matrices: ReadonlyMap<string, Float32Array<ArrayBuffer>>): void {
    this.#model(modelId).write(matrices);
  }

  /** For tests: accumulated gradients by canonical name. */
  debugGetGradients(modelId: string): Promise<Map<string, Float32Array>> {
    return this.#debugRead(modelId, 'grads');
  }

  #debugRead(modelId: string, vector: 'params' | 'grads'): Promise<Map<string, Float32Array>> {
    const model = this.#model(modelId);
    return this.#scheduler.run(modelId, () => this.#host.use(() => model.read(vector)));
  }

  /** Goes on with everything on another device. @returns how many requests were done again */
  async #replace(epoch: Epoch): Promise<number> {
    await this.#bases.replace(epoch);
    await this.#samplers.replace(epoch);
    const replayed = await Promise.all([...this.#living].map((model) => model.replace(epoch)));
    return replayed.reduce((a, b) => a + b, 0);
  }

  /** Rejects what models have under way. */
  #fail(reason: TinkerError): void {
    for (const model of this.#living) model.fail(reason);
  }

  #trained(id: string): Trained {
    this.#host.checkOpen();
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
  async #make<T>(job: (epoch: Epoch) => Promise<T>): Promise<T> {
    const made = await this.#host.use(job);
    this.#host.checkOpen();
    return made;
  }

  /** Submits in call order; the next request of the model is submitted before this one's results are back. */
  #submit<V, T>(model: TrainingModel, make: () => Job<V, T>, signal: AbortSignal | undefined): Promise<T> {
    const submit = (release: Release): Promise<T> => {
      const job = make();
      return model.run(job, () => {
        this.ledger.touch(model.id);
        // the next one may read what this one replaces
        if (!job.alone) release();
      });
    };
    return this.#scheduler.run(model.id, submit, signal);
  }
}

const limitsOf = (base: BaseModel) => ({
  vocabSize: base.config.vocabSize,
  contextLength: base.contextLength,
});
