/** Samples from one base model, or from a snapshot of a trained one. */
import type { Backend, SamplerInfo } from './contract/backend';
import { AbortedError } from './contract/errors';
import { checkSample } from './contract/validate';
import { APIFuture } from './future';
import type { ModelInput } from './model-input';
import { samplingPayload, SamplingParams, type SamplingParamsInit } from './params';
import type { SampleResponse } from './results';
import { loadTokenizer, type Tokenizer } from './tokenizer';

export interface SampleOptions {
  readonly prompt: ModelInput;
  /** how many sequences to draw; they share the prompt's computation */
  readonly numSamples?: number;
  readonly samplingParams?: SamplingParamsInit;
  /** also return log p of each prompt token given those before it */
  readonly includePromptLogprobs?: boolean;
}

/** Made by `ServiceClient.createSamplingClient` or `TrainingClient.saveWeightsAndGetSamplingClient`. */
export class SamplingClient {
  readonly #backend: Backend;
  readonly #info: SamplerInfo;
  #requests = 0;
  #disposed = false;

  /** @internal */
  constructor(backend: Backend, info: SamplerInfo) {
    this.#backend = backend;
    this.#info = info;
  }

  /**
   * Draws `numSamples` continuations. Each has its stop reason, tokens (the
   * stopping ones included) and one log-probability per token, under the
   * temperature-scaled distribution.
   * @throws BadRequestError (through the future) naming the field
   */
  sample({
    prompt,
    numSamples = 1,
    samplingParams = {},
    includePromptLogprobs = false,
  }: SampleOptions): APIFuture<SampleResponse> {
    return this.#submit(prompt, numSamples, samplingParams, includePromptLogprobs, (response) => response);
  }

  /**
   * Log-probabilities of a text's own tokens, `(prompt length)`: entry i is
   * log p(prompt[i] | prompt[< i]), entry 0 is null.
   */
  computeLogprobs(prompt: ModelInput): APIFuture<(number | null)[]> {
    // the service's own way: a sample of one token, which is dropped
    return this.#submit(prompt, 1, { maxTokens: 1 }, true, ({ promptLogprobs }) => [
      ...(promptLogprobs ?? []),
    ]);
  }

  #submit<T>(
    prompt: ModelInput,
    numSamples: number,
    samplingParams: SamplingParamsInit,
    promptLogprobs: boolean,
    result: (response: SampleResponse) => T,
  ): APIFuture<T> {
    const send = async (): Promise<T> => {
      if (this.#disposed) throw new AbortedError('this SamplingClient is disposed');
      const params = samplingPayload(new SamplingParams(samplingParams));
      const request = {
        samplerId: this.#info.samplerId,
        prompt: prompt.toInts(),
        numSamples,
        params,
        promptLogprobs,
      };
      checkSample(request);
      return result(await this.#backend.sample(request));
    };
    return new APIFuture(`${this.#info.samplerId}:${this.#requests++}`, send());
  }

  /** The base model's tokenizer (transformers.js). */
  getTokenizer(): Promise<Tokenizer> {
    return loadTokenizer(this.#backend, this.#info.baseModel);
  }

  /** Name of the base model. */
  getBaseModel(): Promise<string> {
    return Promise.resolve(this.#info.baseModel);
  }

  /** Frees the sampler's memory; later calls reject. */
  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    await this.#backend.unloadSampler(this.#info.samplerId);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }
}
