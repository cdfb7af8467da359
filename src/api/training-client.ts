/** Trains one LoRA adapter. Calls run in the order in which they were made, without waiting for each other. */
import type { Backend } from './contract/backend';
import { AbortedError } from './contract/errors';
import type { LossFnName, ModelInfo } from './contract/types';
import { checkAdamParams, checkForwardBackward } from './contract/validate';
import { datumPayload, type Datum } from './datum';
import { APIFuture } from './future';
import { AdamParams, type AdamParamsInit } from './params';
import {
  forwardBackwardOutput,
  type ForwardBackwardOutput,
  type GetInfoResponse,
  type OptimStepResponse,
} from './results';
import { SamplingClient } from './sampling-client';
import { loadTokenizer, type Tokenizer } from './tokenizer';

/** Scalars of a loss, by wire name. */
export type LossFnConfig = Readonly<Record<string, number>>;

/** Made by `ServiceClient.createLoraTrainingClient`. */
export class TrainingClient {
  readonly modelId: string;
  readonly #backend: Backend;
  readonly #info: ModelInfo;
  /** number of the next request of this model */
  #seq = 1;
  #disposed = false;

  /** @internal */
  constructor(backend: Backend, info: ModelInfo) {
    this.modelId = info.modelId;
    this.#backend = backend;
    this.#info = info;
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
  ): APIFuture<ForwardBackwardOutput> {
    return this.#run(data, lossFn, lossFnConfig, true);
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
  ): APIFuture<ForwardBackwardOutput> {
    return this.#run(data, lossFn, lossFnConfig, false);
  }

  #run(
    data: readonly Datum[],
    lossFn: LossFnName,
    lossFnConfig: LossFnConfig,
    forwardOnly: boolean,
  ): APIFuture<ForwardBackwardOutput> {
    return this.#submit(async () => {
      const request = {
        modelId: this.modelId,
        data: data.map(datumPayload),
        lossFn,
        lossFnConfig,
        forwardOnly,
      };
      checkForwardBackward(request);
      return forwardBackwardOutput(await this.#backend.forwardBackward(request));
    });
  }

  /** One AdamW step with the accumulated gradients, which it clears. */
  optimStep(adamParams: AdamParamsInit = {}): APIFuture<OptimStepResponse> {
    return this.#submit(() => {
      const params = { ...new AdamParams(adamParams) };
      checkAdamParams(params);
      return this.#backend.optimStep({ modelId: this.modelId, adamParams: params });
    });
  }

  /** A sampler of the adapter as it is after the calls made so far; later training does not change it. */
  async saveWeightsAndGetSamplingClient(): Promise<SamplingClient> {
    this.#checkOpen();
    const info = await this.#backend.createSampler({ kind: 'snapshot', modelId: this.modelId });
    return new SamplingClient(this.#backend, info);
  }

  /** Runs `send` up to its first wait, which hands the request to the engine: call order is run order. */
  #submit<T>(send: () => Promise<T>): APIFuture<T> {
    const sent = (async () => {
      this.#checkOpen();
      return send();
    })();
    return new APIFuture(`${this.modelId}:${this.#seq++}`, sent);
  }

  #checkOpen(): void {
    if (this.#disposed) throw new AbortedError(`the TrainingClient of ${this.modelId} is disposed`);
  }

  /** Frees the adapter, its gradients and moments; later calls reject. Samplers made from it live on. */
  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    await this.#backend.unloadModel(this.modelId);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }
}
