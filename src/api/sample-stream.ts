/** Tokens as they are sampled. */
import type { APIFuture } from './future';
import type { SampledTokens, SampleResponse } from './results';

/**
 * The tokens of one sampling request, in order for each sequence; sequences interleave.
 *
 * Iterate it once. Leaving the loop early gives the request up, and `response` rejects with
 * `AbortedError`. An error of the request surfaces in the loop and in `response`.
 */
export class SampleStream implements AsyncIterable<SampledTokens> {
  /** the whole answer, when all sequences have ended */
  readonly response: APIFuture<SampleResponse>;
  readonly #arrived: SampledTokens[] = [];
  readonly #cancel: AbortController;
  #wake: () => void = () => undefined;
  #ended = false;

  /**
   * @internal
   * @param start makes the request, given who to tell of tokens and the signal that gives it up
   */
  constructor(
    start: (onTokens: (event: SampledTokens) => void, cancel: AbortSignal) => APIFuture<SampleResponse>,
  ) {
    this.#cancel = new AbortController();
    const onTokens = (event: SampledTokens): void => {
      this.#arrived.push(event);
      this.#wake();
    };
    this.response = start(onTokens, this.#cancel.signal);
    const end = (): void => {
      this.#ended = true;
      this.#wake();
    };
    this.response.then(end, end);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<SampledTokens, SampleResponse, void> {
    try {
      for (;;) {
        const event = this.#arrived.shift();
        if (event) yield event;
        else if (this.#ended) return await this.response;
        else await new Promise<void>((wake) => (this.#wake = wake));
      }
    } finally {
      this.#cancel.abort('the loop over the stream was left');
    }
  }
}
