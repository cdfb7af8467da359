/**
 * Fair turns at the GPU. Work comes in units: a micro-batch of a training
 * request, an optimizer step, a prompt, one flight of decode steps. Clients
 * (models, samplers) with units waiting take turns, one unit each, and only two
 * units are on the GPU at a time. So nobody waits for more than the units
 * already there and one of every other client, what waits can still be dropped,
 * and one client alone keeps the GPU busy.
 */
import type { AbortedError } from '../api/contract/errors';
import { gaveUp } from './scheduler';

/** Work that has been submitted; `done` settles when its results are on the host. */
export interface Submitted<T> {
  readonly done: Promise<T>;
}

export interface UnitOptions {
  /** drops the unit while it waits */
  readonly signal?: AbortSignal | undefined;
  /** so short that it need not be waited for: takes its turn, but no place on the GPU */
  readonly brief?: boolean;
}

/** Turns that are remembered; more clients than that are not told apart fairly. */
const REMEMBERED = 64;

/** Units on the GPU at a time: one that runs and one behind it, so that the GPU never waits for the host. */
const PLACES = 2;

interface Unit {
  readonly brief: boolean;
  readonly start: () => Promise<unknown>;
}

export class Turns {
  /** clients with units waiting, in the order in which they came */
  readonly #waiting = new Map<string, Unit[]>();
  /** clients that had the last turns, oldest first */
  readonly #served: string[] = [];
  #running = 0;

  /**
   * Calls `start`, which must submit at once, when it is this client's turn.
   * Resolves then; `done` is what `start` returned.
   * @throws AbortedError when dropped before its turn
   */
  submit<T>(client: string, start: () => Promise<T>, options: UnitOptions = {}): Promise<Submitted<T>> {
    const { signal, brief = false } = options;
    if (signal?.aborted) return Promise.reject(gaveUp(signal));
    return new Promise<Submitted<T>>((resolve, reject: (reason: AbortedError) => void) => {
      const unit: Unit = {
        brief,
        start: () => {
          signal?.removeEventListener('abort', drop);
          const done = (async () => start())();
          resolve({ done });
          return done;
        },
      };
      const drop = (): void => {
        const units = this.#waiting.get(client)!;
        units.splice(units.indexOf(unit), 1);
        if (units.length === 0) this.#waiting.delete(client);
        reject(gaveUp(signal!));
      };
      signal?.addEventListener('abort', drop, { once: true });
      const units = this.#waiting.get(client);
      if (units) units.push(unit);
      else this.#waiting.set(client, [unit]);
      this.#advance();
    });
  }

  #advance(): void {
    while (this.#running < PLACES && this.#waiting.size > 0) {
      const client = this.#next();
      const units = this.#waiting.get(client)!;
      const unit = units.shift()!;
      if (units.length === 0) this.#waiting.delete(client);
      this.#served.push(client);
      if (this.#served.length > REMEMBERED) this.#served.shift();
      this.#start(unit);
    }
  }

  /** Whose last turn is longest ago. A client that queues one unit after the other is not always in the line. */
  #next(): string {
    const [first, ...others] = this.#waiting.keys();
    const last = (client: string): number => this.#served.lastIndexOf(client);
    return others.reduce((a, b) => (last(b) < last(a) ? b : a), first!);
  }

  #start(unit: Unit): void {
    if (!unit.brief) this.#running++;
    const over = (): void => {
      if (!unit.brief) this.#running--;
      this.#advance();
    };
    unit.start().then(over, over);
  }
}
