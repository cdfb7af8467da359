/** The promise of a request that is already queued. */
import { AbortedError, APITimeoutError } from './contract/errors';
import { checkNames } from './options';

export interface ResultOptions {
  /** wait at most this long, ms; the request itself goes on */
  readonly timeoutMs?: number | undefined;
  /**
   * When it fires, this wait ends with `AbortedError`, and the request is given up for everyone who waits
   * for it, as by a `signal` given to the call itself: one that waits is dropped, sampling ends early.
   */
  readonly signal?: AbortSignal | undefined;
}

/** As a promise's own callbacks get it: not `unknown`, so that `(error: Error) => …` will do. */
type Reason = Parameters<NonNullable<Parameters<Promise<unknown>['catch']>[0]>>[0];

/**
 * Awaiting it gives the result. The request was queued when the call that
 * returned this future returned, so several can be in flight.
 *
 * A rejection nobody awaits raises no `unhandledrejection`: in pipelined loops
 * a later await reports it.
 */
export class APIFuture<T> implements PromiseLike<T> {
  readonly requestId: string;
  readonly #promise: Promise<T>;
  readonly #cancel: (reason: unknown) => void;

  /** @param cancel gives the request up; `promise` then rejects, unless it is past that */
  constructor(requestId: string, promise: Promise<T>, cancel: (reason: unknown) => void = () => undefined) {
    this.requestId = requestId;
    this.#promise = promise;
    this.#cancel = cancel;
    promise.catch(() => undefined);
  }

  then<A = T, B = never>(
    onFulfilled?: ((value: T) => A | PromiseLike<A>) | null,
    onRejected?: ((reason: Reason) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.#promise.then(onFulfilled, onRejected);
  }

  catch<B = never>(onRejected?: ((reason: Reason) => B | PromiseLike<B>) | null): Promise<T | B> {
    return this.#promise.catch(onRejected);
  }

  finally(onFinally?: (() => void) | null): Promise<T> {
    return this.#promise.finally(onFinally);
  }

  /**
   * The result, waiting at most `timeoutMs`; `signal` gives the request up.
   * @throws APITimeoutError, AbortedError, or the request's own error; at once BadRequestError on another option
   */
  result(options: ResultOptions = {}): Promise<T> {
    checkNames('result', options, ['timeoutMs', 'signal']);
    const { timeoutMs, signal } = options;
    if (timeoutMs === undefined && !signal) return this.#promise;
    return new Promise<T>((resolve, reject) => {
      const abort = (): void => {
        this.#cancel(signal?.reason);
        reject(new AbortedError(`${this.requestId}: the caller gave it up`, { cause: signal?.reason }));
      };
      if (signal?.aborted) return abort();
      const timer =
        timeoutMs === undefined
          ? undefined
          : setTimeout(
              () =>
                reject(new APITimeoutError(`request ${this.requestId}: no result within ${timeoutMs} ms`)),
              timeoutMs,
            );
      signal?.addEventListener('abort', abort, { once: true });
      this.#promise.then(resolve, reject).finally(() => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', abort);
      });
    });
  }
}
