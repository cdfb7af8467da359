/** How clients hand requests to the engine: at once, in order, and such that they can be given up. */
import { AbortedError } from './contract/errors';
import type { ProgressEvent } from './contract/types';
import { APIFuture } from './future';

/** The last argument of every call that queues work. */
export interface RequestOptions {
  /**
   * Gives the request up: one that waits is dropped as if it had never been made, sampling ends early,
   * and the future rejects with `AbortedError`. A training request that has started finishes all the
   * same, and its future resolves.
   */
  readonly signal?: AbortSignal | undefined;
}

export type ProgressCallback = (event: ProgressEvent) => void;

/** Of calls that may have to load a model first. */
export interface LoadOptions extends RequestOptions {
  /** default: the `ServiceClient`'s */
  readonly onProgress?: ProgressCallback | undefined;
}

/**
 * Runs `send` up to its first wait, which hands the request to the engine: call order is run order.
 * The signal it is given fires when the caller's does, or one given to the future's `result`.
 */
export function submit<T>(
  requestId: string,
  send: (signal: AbortSignal) => Promise<T>,
  { signal: given }: RequestOptions,
): APIFuture<T> {
  const controller = new AbortController();
  const signal = given ? AbortSignal.any([given, controller.signal]) : controller.signal;
  const sent = (async () => {
    checkAborted(signal, requestId);
    try {
      return await send(signal);
    } catch (error) {
      // an engine in a worker knows that the signal fired, not why
      if (error instanceof AbortedError) checkAborted(signal, requestId);
      throw error;
    }
  })();
  return new APIFuture(requestId, sent, (reason) => controller.abort(reason));
}

/** @throws AbortedError if the signal has fired, with its reason as `cause` */
export function checkAborted(signal: AbortSignal | undefined, what: string): void {
  if (signal?.aborted) throw new AbortedError(`${what}: the caller gave it up`, { cause: signal.reason });
}

/** Waits for `turn`, but not longer than until the signal fires. @throws AbortedError, or what `turn` rejects with */
export async function awaitTurn(turn: Promise<unknown>, signal: AbortSignal, what: string): Promise<void> {
  let abort = (): void => undefined;
  const aborted = new Promise<void>((done) => (abort = done));
  if (signal.aborted) abort();
  else signal.addEventListener('abort', abort, { once: true });
  try {
    await Promise.race([turn, aborted]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
  checkAborted(signal, what);
}
