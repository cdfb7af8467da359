/** Who runs when: the jobs of one model in call order, different models side by side. */
import { AbortedError } from '../api/contract/errors';

/**
 * Lets the model's next job start before this one has its result, e.g. once the
 * GPU work is submitted and only the readback is awaited. Calling it is optional.
 */
export type Release = () => void;

interface Waiting {
  readonly start: () => void;
  readonly reject: (reason: AbortedError) => void;
}

export class Scheduler {
  /** per model with a running job, those that wait for it */
  readonly #queues = new Map<string, Waiting[]>();
  #disposed = false;

  /**
   * Runs a job after the earlier ones of `key`; at once if there are none. The
   * order is taken now, synchronously. A job that fails rejects only its own
   * promise.
   * @throws AbortedError (as a rejection) when disposed before the job started
   */
  run<T>(key: string, job: (release: Release) => Promise<T>): Promise<T> {
    if (this.#disposed) return Promise.reject(disposed());
    return new Promise<T>((resolve, reject) => {
      const start = (): void => {
        let ours = true;
        const release = (): void => {
          if (ours) this.#next(key);
          ours = false;
        };
        const result = (async () => job(release))();
        void result.then(resolve, reject).finally(release);
      };
      const waiting = this.#queues.get(key);
      if (waiting) waiting.push({ start, reject });
      else {
        this.#queues.set(key, []);
        start();
      }
    });
  }

  #next(key: string): void {
    const next = this.#queues.get(key)?.shift();
    if (next) next.start();
    else this.#queues.delete(key);
  }

  /** Rejects what waits and what comes; jobs that run are left to end. */
  dispose(): void {
    this.#disposed = true;
    for (const waiting of this.#queues.values())
      for (const { reject } of waiting.splice(0)) reject(disposed());
  }
}

const disposed = (): AbortedError => new AbortedError('the engine was disposed before this request started');
