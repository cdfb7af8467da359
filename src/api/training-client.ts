/** Trains one LoRA adapter. Calls run in the order in which they were made, without waiting for each other. */
import type { Backend, ForwardBackwardRequest } from './contract/backend';
import { AbortedError, BadRequestError } from './contract/errors';
import type { LossFnName, ModelInfo } from './contract/types';
import { checkAdamParams, checkForwardBackward } from './contract/validate';
import { customBackward, customForward, customOutput, evaluate, type CustomLossFn } from './custom-loss';
import { datumPayloads, type Datum } from './datum';
import type { APIFuture } from './future';
import { checkNames } from './options';
import { AdamParams, type AdamParamsInit } from './params';
import { awaitTurn, checkAborted, submit, type LoadOptions, type RequestOptions } from './request';
import {
  forwardBackwardOutput,
  type ForwardBackwardOutput,
  type GetInfoResponse,
  type LoadWeightsResponse,
  type OptimStepResponse,
  type SaveWeightsForSamplerResponse,
  type SaveWeightsResponse,
} from './results';
import { SamplingClient } from './sampling-client';
import type { Session } from './session';
import { loadTokenizer, type Tokenizer } from './tokenizer';

/** Scalars of a loss, by wire name. */
export type LossFnConfig = Readonly<Record<string, number>>;

export interface CustomLossOptions extends RequestOptions {
  /** what the loss is a function of; there is one kind */
  readonly lossTypeInput?: 'logprobs';
}

export interface SaveWeightsOptions extends RequestOptions {
  /** seconds until the checkpoint expires; null = never */
  readonly ttlSeconds?: number | null;
}

export interface SaveStateOptions extends SaveWeightsOptions {
  /** replace a checkpoint of that name; else that is a `ConflictError` */
  readonly overwrite?: boolean;
}

/** Made by `ServiceClient.createLoraTrainingClient` and its `createTrainingClientFromState…`. */
export class TrainingClient {
  /** also the id of its training run */
  readonly modelId: string;
  readonly #session: Session;
  readonly #info: ModelInfo;
  /** number of the next request of this model */
  #seq = 1;
  /** what later calls wait for: a custom loss whose second half is not sent yet */
  #turn: Promise<void> | undefined;
  #disposed = false;

  /** @internal */
  constructor(session: Session, info: ModelInfo) {
    this.modelId = info.modelId;
    this.#session = session;
    this.#info = info;
    session.add(this);
  }

  /** Base model, LoRA rank and tokenizer name, as the engine has them. */
  getInfo(): Promise<GetInfoResponse> {
    return this.#backend.getInfo(this.modelId);
  }

  /** The base model's tokenizer (transformers.js). */
  getTokenizer(): Promise<Tokenizer> {
    return loadTokenizer(this.#backend, this.#info.modelName);
  }

  /**
   * The loss and per-token log-probabilities, without gradients.
   * @throws BadRequestError (through the future) naming the field
   */
  forward(
    data: readonly Datum[],
    lossFn: LossFnName,
    lossFnConfig: LossFnConfig = {},
    options: RequestOptions = {},
  ): APIFuture<ForwardBackwardOutput> {
    return this.#run(data, lossFn, lossFnConfig, true, options);
  }

  /**
   * Like `forward`, and adds the loss's gradient to what the next `optimStep`
   * applies. Several calls accumulate.
   * @throws BadRequestError (through the future) naming the field; nothing is accumulated then
   */
  forwardBackward(
    data: readonly Datum[],
    lossFn: LossFnName,
    lossFnConfig: LossFnConfig = {},
    options: RequestOptions = {},
  ): APIFuture<ForwardBackwardOutput> {
    return this.#run(data, lossFn, lossFnConfig, false, options);
  }

  #run(
    data: readonly Datum[],
    lossFn: LossFnName,
    lossFnConfig: LossFnConfig,
    forwardOnly: boolean,
    options: RequestOptions,
  ): APIFuture<ForwardBackwardOutput> {
    const prepare = (): ForwardBackwardRequest =>
      this.#batch({ data: datumPayloads(data), lossFn, lossFnConfig }, forwardOnly);
    return this.#submit(prepare, (request, signal) => this.#forwardBackward(request, signal), options);
  }

  #batch(
    batch: Omit<ForwardBackwardRequest, 'modelId' | 'forwardOnly'>,
    forwardOnly: boolean,
  ): ForwardBackwardRequest {
    checkForwardBackward(batch);
    return { modelId: this.modelId, ...batch, forwardOnly };
  }

  async #forwardBackward(
    request: ForwardBackwardRequest,
    signal: AbortSignal,
  ): Promise<ForwardBackwardOutput> {
    return forwardBackwardOutput(await this.#backend.forwardBackward(request, { signal }));
  }

  /**
   * Gradients of a loss of your own: a forward pass, `lossFn` on its log-probabilities, and a backward
   * pass. `lossFn` answers its loss and gradient; `jaxLoss` of `webtinker/jax` makes one that is
   * differentiated for you. Datums need `target_tokens`, may have `weights` (zero if absent, they only
   * enter the forward pass) and any other input `lossFn` reads.
   *
   * Runs as one: calls made meanwhile wait until its second half is sent, so an `optimStep` made right
   * after applies its gradients. `lossFn` must not wait for other calls of this client.
   * In the output `loss:sum` is the loss that `lossFn` answered, and its metrics are added.
   * @throws BadRequestError (through the future) naming the field or the part of the answer; whatever `lossFn` throws
   */
  forwardBackwardCustom(
    data: readonly Datum[],
    lossFn: CustomLossFn,
    { lossTypeInput = 'logprobs', ...options }: CustomLossOptions = {},
  ): APIFuture<ForwardBackwardOutput> {
    // read again after the forward pass, when the caller's list may hold the next batch
    let batch = data;
    let pass = (): void => undefined;
    const both = new Promise<void>((done) => (pass = done));
    const prepare = (): ForwardBackwardRequest => {
      if (lossTypeInput !== 'logprobs') {
        throw new BadRequestError(`loss_type_input: must be logprobs, got ${String(lossTypeInput)}`);
      }
      const forward = this.#batch(customForward(data), true);
      batch = [...data];
      return forward;
    };
    const send = async (
      forward: ForwardBackwardRequest,
      signal: AbortSignal,
    ): Promise<ForwardBackwardOutput> => {
      const output = await this.#forwardBackward(forward, signal);
      checkAborted(signal, 'the custom loss');
      const evaluation = evaluate(batch, lossFn, output);
      await awaitTurn(evaluation, signal, 'the custom loss');
      const custom = await evaluation;
      this.#checkOpen();
      const backward = this.#forwardBackward(
        this.#batch(customBackward(batch, custom.gradients), false),
        signal,
      );
      pass();
      return customOutput(await backward, custom);
    };
    const earlier = this.#turn;
    const future = this.#submit(prepare, send, options);
    // this one may fail before an earlier one has had its turn
    this.#turn = both.then(() => earlier);
    // a failure lets the next calls through, too
    void future.then(pass, pass);
    return future;
  }

  /** One AdamW step with the accumulated gradients, which it clears. */
  optimStep(adamParams: AdamParamsInit = {}, options: RequestOptions = {}): APIFuture<OptimStepResponse> {
    const prepare = (): { modelId: string; adamParams: AdamParams } => {
      const params = { ...new AdamParams(adamParams) };
      checkAdamParams(params);
      return { modelId: this.modelId, adamParams: params };
    };
    return this.#submit(prepare, (request, signal) => this.#backend.optimStep(request, { signal }), options);
  }

  /**
   * Saves all it takes to go on training: the adapter, Adam's moments and step count.
   * Resolves when it is safely stored; calls made meanwhile run.
   * @param name the last part of its path: at most 200 characters, no slashes
   * @throws ConflictError (through the future) where the name is taken, StorageFullError without room
   */
  saveState(name: string, options: SaveStateOptions = {}): APIFuture<SaveWeightsResponse> {
    return this.#save('training', name, options, ['ttlSeconds', 'overwrite', 'signal']);
  }

  /** Saves the adapter alone, to sample from; a name of its own, as `saveState`'s. */
  saveWeightsForSampler(
    name: string,
    options: SaveWeightsOptions = {},
  ): APIFuture<SaveWeightsForSamplerResponse> {
    return this.#save('sampler', name, options, ['ttlSeconds', 'signal']);
  }

  #save(
    checkpointType: 'training' | 'sampler',
    name: string,
    options: SaveStateOptions,
    known: readonly (keyof SaveStateOptions)[],
  ): APIFuture<{ readonly path: string }> {
    const { ttlSeconds = null, overwrite = false } = options;
    const request = { modelId: this.modelId, checkpointType, name, ttlSeconds, overwrite };
    return this.#submit(
      () => {
        checkNames(checkpointType === 'training' ? 'saveState' : 'saveWeightsForSampler', options, known);
        return request;
      },
      (r, signal) => this.#backend.saveWeights(r, { signal }),
      options,
    );
  }

  /**
   * Puts a saved adapter in place of this one, clears pending gradients, and restarts the optimizer.
   * @param path of a training checkpoint whose adapter has the same base model, rank and parts
   * @throws NotFoundError (through the future), UnprocessableEntityError where it is damaged
   */
  loadState(path: string, options: RequestOptions = {}): APIFuture<LoadWeightsResponse> {
    return this.#load(path, false, options);
  }

  /** Like `loadState`, and restores the optimizer: what follows equals the run that was saved, bit for bit. */
  loadStateWithOptimizer(path: string, options: RequestOptions = {}): APIFuture<LoadWeightsResponse> {
    return this.#load(path, true, options);
  }

  #load(path: string, optimizer: boolean, options: RequestOptions): APIFuture<LoadWeightsResponse> {
    const request = { modelId: this.modelId, path, optimizer };
    return this.#submit(
      () => request,
      (r, signal) => this.#backend.loadWeights(r, { signal }),
      options,
    );
  }

  /** A sampler of the adapter as it is after the calls made so far; later training does not change it. */
  async saveWeightsAndGetSamplingClient(options: LoadOptions = {}): Promise<SamplingClient> {
    const info = await this.#submit(
      () => ({ kind: 'snapshot', modelId: this.modelId }) as const,
      (r, signal) => this.#backend.createSampler(r, this.#session.loading({ ...options, signal })),
      options,
    );
    return new SamplingClient(this.#session, info);
  }

  /**
   * A sampler of a saved adapter.
   * @param modelPath `tinker://RUN/sampler_weights/NAME`
   * @throws NotFoundError
   */
  createSamplingClient(modelPath: string, options: LoadOptions = {}): Promise<SamplingClient> {
    return SamplingClient.create(this.#session, { modelPath }, options);
  }

  /**
   * Runs `send` up to its first wait, which hands the request to the engine: call order is run order.
   * The request is made at once, from what the arguments are now; only a custom loss makes it wait.
   */
  #submit<Q, T>(
    prepare: () => Q,
    send: (request: Q, signal: AbortSignal) => Promise<T>,
    options: RequestOptions,
  ): APIFuture<T> {
    const id = `${this.modelId}:${this.#seq++}`;
    const turn = this.#turn;
    const run = async (signal: AbortSignal): Promise<T> => {
      this.#checkOpen();
      const request = prepare();
      if (turn) {
        await awaitTurn(turn, signal, id);
        this.#checkOpen();
      }
      return send(request, signal);
    };
    return submit(id, run, options);
  }

  get #backend(): Backend {
    return this.#session.backend;
  }

  #checkOpen(): void {
    if (this.#disposed) throw new AbortedError(`the TrainingClient of ${this.modelId} is disposed`);
  }

  /** Frees the adapter, its gradients and moments; later calls reject. Samplers made from it live on. */
  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    await this.#session.remove(this, () => this.#backend.unloadModel(this.modelId));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }
}
