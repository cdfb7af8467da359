/** Who runs when: the jobs of one client in call order, different clients side by side. */
import { AbortedError } from '../api/contract/errors';

/**
 * Lets the client's next job start before this one has its result, e.g. once the
 * GPU work is submitted and only the readback is awaited. Calling it is optional.
 */
export type Release = () => void;

interface Waiting {
  readonly start: () => void;
  readonly reject: (reason: AbortedError) => void;
}

export class Scheduler {
  /** per client with a running job, those that wait for it */
  readonly #queues = new Map<string, Waiting[]>();
  #disposed = false;

  /**
   * Runs a job after the earlier ones of `key`; at once if there are none. The
   * order is taken now, synchronously. A job that fails rejects only its own
   * promise.
   * @param signal drops the job while it waits; a job that runs must look at it itself
   * @throws AbortedError (as a rejection) when dropped, or disposed before the job started
   */
  run<T>(key: string, job: (release: Release) => Promise<T>, signal?: AbortSignal): Promise<T> {
    if (this.#disposed) return Promise.reject(disposed());
    if (signal?.aborted) return Promise.reject(gaveUp(signal));
    return new Promise<T>((resolve, reject) => {
      const start = (): void => {
        signal?.removeEventListener('abort', drop);
        let ours = true;
        const release = (): void => {
          if (ours) this.#next(key);
          ours = false;
        };
        const result = (async () => job(release))();
        void result.then(resolve, reject).finally(release);
      };
      const waiting = this.#queues.get(key);
      const entry: Waiting = {
        start,
        reject: (reason) => {
          signal?.removeEventListener('abort', drop);
          reject(reason);
        },
      };
      const drop = (): void => {
        waiting!.splice(waiting!.indexOf(entry), 1);
        reject(gaveUp(signal!));
      };
      if (waiting) {
        waiting.push(entry);
        signal?.addEventListener('abort', drop, { once: true });
      } else {
        this.#queues.set(key, []);
        start();
      }
    });
  }

  /** Rejects what waits under `key`; what runs is left to end, and new jobs may follow it. */
  clear(key: string, reason: AbortedError): void {
    for (const { reject } of this.#queues.get(key)?.splice(0) ?? []) reject(reason);
  }

  #next(key: string): void {
    const next = this.#queues.get(key)?.shift();
    if (next) next.start();
    else this.#queues.delete(key);
  }

  /** Rejects what waits and what comes; jobs that run are left to end. */
  dispose(): void {
    this.#disposed = true;
    for (const key of this.#queues.keys()) this.clear(key, disposed());
  }
}

const disposed = (): AbortedError => new AbortedError('the engine was disposed before this request started');

/** The rejection of a request whose caller gave it up. */
export const gaveUp = (signal: AbortSignal): AbortedError =>
  signal.reason instanceof AbortedError
    ? signal.reason
    : new AbortedError('the caller gave this request up before it was done', { cause: signal.reason });
