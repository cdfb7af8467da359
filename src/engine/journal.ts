/**
 * What was asked of one model since its last completed step, in order: what is under way, and the requests that
 * added to the gradients. With the adapter and moments of that step it is all that is needed to go on elsewhere.
 */
import { asTinkerError } from '../api/contract/errors';
import { ATTEMPTS, tooOften, type DeviceHost, type Epoch } from './recovery';
import type { Submitted } from './turns';

/** A request of a model that another device can be asked again. */
export interface Job<V, T> {
  /** Submits. What it needs of the device it takes from the model before it first waits. */
  readonly submit: () => Promise<Submitted<V>>;
  /** Takes in what came back; called once, in the order of the requests. */
  readonly finish: (value: V) => T | Promise<T>;
  /**
   * What it does to the gradients if it succeeds. After `settles` nothing before it need be done again: they are
   * cleared, even if `finish` refuses the value, or kept.
   */
  readonly gradients: 'adds' | 'settles' | 'leaves';
  /** whether the next may be submitted only when this one's result is taken in */
  readonly alone?: boolean;
}

interface Entry {
  readonly job: Job<unknown, unknown>;
  readonly resolve: (result: unknown) => void;
  readonly reject: (reason: unknown) => void;
  readonly onSubmitted: () => void;
  /** its caller has the answer; kept because the gradients need it */
  answered: boolean;
  attempts: number;
}

type Outcome = { readonly value: unknown } | { readonly error: unknown };

export class Journal {
  #entries: Entry[] = [];
  /** when the results of everything submitted so far have been taken in */
  #landed: Promise<void> = Promise.resolve();
  /** what stopped a request that was answered from being done again */
  #failure: Error | undefined;

  constructor(private readonly host: DeviceHost) {}

  /** Runs a job after those before it. @param onSubmitted called when the next may be submitted */
  async run<V, T>(job: Job<V, T>, onSubmitted: () => void): Promise<T> {
    const epoch = await this.host.ready();
    return new Promise<T>((resolve, reject) => {
      const entry: Entry = {
        job: job as Job<unknown, unknown>,
        resolve: resolve as Entry['resolve'],
        reject,
        onSubmitted,
        answered: false,
        attempts: 0,
      };
      this.#entries.push(entry);
      void this.#start(entry, epoch);
    });
  }

  /** requests that have their answers, and would be done again */
  get kept(): number {
    return this.#entries.filter(({ answered }) => answered).length;
  }

  /** When the results of all that was submitted so far have been taken in. */
  get landed(): Promise<void> {
    return this.#landed;
  }

  /**
   * Does again what is kept, on a device on which the model is as after its last completed step.
   * @returns how many requests
   * @throws what stopped a request whose answer has been given
   */
  async replay(epoch: Epoch): Promise<number> {
    const entries = [...this.#entries];
    this.#landed = Promise.resolve();
    this.#failure = undefined;
    for (const entry of entries) {
      if (!entry.answered && entry.attempts >= ATTEMPTS) this.#refuse(entry, tooOften(epoch));
      else await this.#start(entry, epoch);
    }
    await this.#landed;
    const failure = this.#failure as Error | undefined;
    if (failure) throw failure;
    return entries.length;
  }

  /** Rejects what has no answer yet. */
  fail(reason: unknown): void {
    for (const entry of [...this.#entries]) if (!entry.answered) this.#refuse(entry, reason);
  }

  async #start(entry: Entry, epoch: Epoch): Promise<void> {
    entry.attempts++;
    let outcome: Promise<Outcome>;
    try {
      const { done } = await entry.job.submit();
      outcome = done.then(
        (value) => ({ value }),
        (error: unknown) => ({ error }),
      );
      if (!epoch.over) entry.onSubmitted();
    } catch (error) {
      outcome = Promise.resolve({ error });
    }
    // what ended meanwhile is not this device's business
    if (epoch.over) return;
    const before = this.#landed;
    this.#landed = before.then(async () => this.#land(entry, epoch, await outcome));
  }

  /** Takes in a result, unless its device is gone: then it will be had again from the next. */
  async #land(entry: Entry, epoch: Epoch, outcome: Outcome): Promise<void> {
    if ('error' in outcome && (await this.host.isLoss(epoch, outcome.error))) return;
    if (epoch.over || !this.#entries.includes(entry)) return;
    if (entry.answered) {
      if ('error' in outcome) this.#failure = asTinkerError(outcome.error);
      return;
    }
    try {
      if ('error' in outcome) throw this.host.reasonOf(outcome.error);
      this.host.checkFault();
      this.#answer(entry, outcome.value);
      this.host.progress();
    } catch (error) {
      this.#refuse(entry, error);
    }
  }

  #answer(entry: Entry, value: unknown): void {
    const { gradients, finish } = entry.job;
    // refused or not, the device has done it
    if (gradients === 'settles') this.#entries = this.#entries.slice(this.#entries.indexOf(entry));
    entry.resolve(finish(value));
    entry.answered = true;
    if (gradients !== 'adds') this.#drop(entry);
  }

  #refuse(entry: Entry, reason: unknown): void {
    this.#drop(entry);
    entry.reject(reason);
  }

  #drop(entry: Entry): void {
    this.#entries = this.#entries.filter((other) => other !== entry);
  }
}
