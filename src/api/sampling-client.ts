/** Samples from one base model, one saved adapter, or a snapshot of a trained one. */
import type { CreateSamplerRequest, SampleRequest, SamplerInfo } from './contract/backend';
import { AbortedError, BadRequestError } from './contract/errors';
import { parseTinkerPath } from './contract/tinker-path';
import { checkExportOnnx, checkSample } from './contract/validate';
import type { APIFuture } from './future';
import { inputTokens, type ModelInput } from './model-input';
import { checkNames } from './options';
import { samplingPayload, SamplingParams, type SamplingParamsInit } from './params';
import { submit, type LoadOptions, type RequestOptions } from './request';
import { sampleResponse, type OnnxExport, type SampledTokens, type SampleResponse } from './results';
import { SampleStream } from './sample-stream';
import type { Session } from './session';
import { loadTokenizer, type Tokenizer } from './tokenizer';

export interface SampleOptions extends RequestOptions {
  readonly prompt: ModelInput;
  /** how many sequences to draw; they share the prompt's computation */
  readonly numSamples?: number;
  readonly samplingParams?: SamplingParamsInit;
  /** also return log p of each prompt token given those before it */
  readonly includePromptLogprobs?: boolean;
  /** how many of the likeliest tokens to list at each place of the prompt; 0 = none */
  readonly topkPromptLogprobs?: number;
}

export interface ExportOnnxOptions extends LoadOptions {
  /**
   * Where the weights take more bytes than this in all, they lie beside the graph, in files of up to 1 GiB:
   * `onnx/model.onnx_data`, `onnx/model.onnx_data_1` …; default 64 MiB
   */
  readonly inlineBytes?: number | undefined;
}

/** What to sample from; `modelPath` counts where both are given. */
export interface SampledModel {
  readonly baseModel?: string | undefined;
  /** `tinker://RUN/sampler_weights/NAME` */
  readonly modelPath?: string | undefined;
}

/** Made by `ServiceClient.createSamplingClient`, `TrainingClient.createSamplingClient` and `saveWeightsAndGetSamplingClient`. */
export class SamplingClient {
  readonly #session: Session;
  readonly #info: SamplerInfo;
  #requests = 0;
  #disposed = false;

  /** @internal */
  constructor(session: Session, info: SamplerInfo) {
    this.#session = session;
    this.#info = info;
    session.add(this);
  }

  /** @internal @throws BadRequestError without a model */
  static async create(session: Session, of: SampledModel, options: LoadOptions): Promise<SamplingClient> {
    const { baseModel, modelPath } = of;
    if (modelPath !== undefined) parseTinkerPath(modelPath, 'model_path');
    if (!baseModel && modelPath === undefined) {
      throw new BadRequestError('base_model is required, or model_path');
    }
    const sessionId = await session.id();
    const request: CreateSamplerRequest =
      modelPath !== undefined
        ? { kind: 'checkpoint', sessionId, modelPath }
        : { kind: 'base', sessionId, baseModel: baseModel! };
    const info = await session.backend.createSampler(request, session.loading(options));
    return new SamplingClient(session, info);
  }

  /** Names it in `RestClient.getSampler`. */
  get samplerId(): string {
    return this.#info.samplerId;
  }

  /**
   * Draws `numSamples` continuations. Each has its stop reason, tokens (the
   * stopping ones included) and one log-probability per token, under the
   * temperature-scaled distribution.
   * @throws BadRequestError (through the future) naming the field; UnsupportedError on images
   */
  sample(options: SampleOptions): APIFuture<SampleResponse> {
    return this.#submit(
      () => this.#request(options),
      options,
      (response) => response,
    );
  }

  /**
   * Like `sample`, and gives tokens as they come:
   * `for await (const { sequence, tokens, logprobs, stopReason } of client.stream(…))`.
   * Leaving the loop early ends the sampling.
   */
  stream(options: SampleOptions): SampleStream {
    return new SampleStream((onTokens, cancel) => {
      const signal = options.signal ? AbortSignal.any([options.signal, cancel]) : cancel;
      return this.#submit(
        () => this.#request(options),
        { signal },
        (response) => response,
        onTokens,
      );
    });
  }

  /**
   * Log-probabilities of a text's own tokens, `(prompt length)`: entry i is
   * log p(prompt[i] | prompt[< i]), entry 0 is null.
   */
  computeLogprobs(prompt: ModelInput, options: RequestOptions = {}): APIFuture<(number | null)[]> {
    // the service's own way: a sample of one token, which is dropped
    const samplingParams = { maxTokens: 1 };
    const request = (): SampleRequest =>
      this.#request({ prompt, samplingParams, includePromptLogprobs: true });
    return this.#submit(request, options, ({ promptLogprobs }) => [...(promptLogprobs ?? [])]);
  }

  /**
   * The model with its adapter merged in, as files for ONNX Runtime: put in a folder, transformers.js loads them with
   * `pipeline('text-generation', folder)`. Weights are f32. `onProgress` counts the weights written; samples may be
   * drawn meanwhile.
   * @throws BadRequestError (through the future) naming the option
   */
  exportOnnx(options: ExportOnnxOptions = {}): APIFuture<OnnxExport> {
    const send = async (signal: AbortSignal): Promise<OnnxExport> => {
      checkNames('exportOnnx', options, ['inlineBytes', 'onProgress', 'signal']);
      const request = { samplerId: this.samplerId, inlineBytes: options.inlineBytes ?? null };
      checkExportOnnx(request);
      const { backend } = this.#session;
      const { files, archive } = await backend.exportOnnx(
        request,
        this.#session.loading({ ...options, signal }),
      );
      return { files: new Map(Object.entries(files)), archive };
    };
    return this.#queue(send, options);
  }

  /** @throws BadRequestError naming the field */
  #request(options: SampleOptions): SampleRequest {
    checkNames('sample', options, [
      'prompt',
      'numSamples',
      'samplingParams',
      'includePromptLogprobs',
      'topkPromptLogprobs',
      'signal',
    ]);
    const { prompt, numSamples = 1, samplingParams = {} } = options;
    const request: SampleRequest = {
      samplerId: this.#info.samplerId,
      prompt: inputTokens(prompt, 'prompt'),
      numSamples,
      params: samplingPayload(new SamplingParams(samplingParams)),
      promptLogprobs: options.includePromptLogprobs ?? false,
      topkPromptLogprobs: options.topkPromptLogprobs ?? 0,
    };
    checkSample(request);
    return request;
  }

  #submit<T>(
    request: () => SampleRequest,
    options: RequestOptions,
    answer: (response: SampleResponse) => T,
    onTokens?: (event: SampledTokens) => void,
  ): APIFuture<T> {
    const send = async (signal: AbortSignal): Promise<T> => {
      const payload = await this.#session.backend.sample(request(), { signal, onTokens });
      return answer(sampleResponse(payload));
    };
    return this.#queue(send, options);
  }

  #queue<T>(send: (signal: AbortSignal) => Promise<T>, options: RequestOptions): APIFuture<T> {
    const unlessDisposed = async (signal: AbortSignal): Promise<T> => {
      if (this.#disposed) throw new AbortedError('this SamplingClient is disposed');
      return send(signal);
    };
    return submit(`${this.samplerId}:${this.#requests++}`, unlessDisposed, options);
  }

  /** The base model's tokenizer (transformers.js). */
  getTokenizer(): Promise<Tokenizer> {
    return loadTokenizer(this.#session.backend, this.#info.baseModel);
  }

  /** Name of the base model. */
  getBaseModel(): Promise<string> {
    return Promise.resolve(this.#info.baseModel);
  }

  /** Frees the sampler's memory; later calls reject. */
  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    const { samplerId } = this.#info;
    await this.#session.remove(this, () => this.#session.backend.unloadSampler(samplerId));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }
}
