/** Does one thing after the other, and nothing more once the runtime has broken down. */
import { DeviceLostError, OutOfMemoryError } from '../../../api/contract/errors';
import type { DeviceLoss } from '../device';

/** Longest that a thread in which runs are synchronous goes without looking at its messages, ms. */
const HOLD_MS = 8;

/** A whole turn of the event loop, without the wait that timers have at least. */
const turn = (): Promise<void> =>
  new Promise((next) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      next();
    };
    port2.postMessage(null);
  });

export class WorkQueue {
  /** when messages were last looked at */
  #looked = 0;
  #tail: Promise<unknown> = Promise.resolve();
  #loss: DeviceLoss | undefined;
  #broken = false;
  #lose!: (loss: DeviceLoss) => void;
  readonly lost = new Promise<DeviceLoss>((resolve) => {
    this.#lose = resolve;
  });

  constructor(
    /** whether the runtime can go on after an error */
    readonly survives: (error: unknown) => boolean,
  ) {}

  /**
   * Queues `work`.
   * @throws DeviceLostError, also when it is this work that breaks the runtime
   * @throws OutOfMemoryError naming `what`
   */
  enqueue<T>(what: string, work: () => T | Promise<T>): Promise<T> {
    const done = this.#tail.then(async () => {
      // promises alone would keep new requests, and the wish to give one up, waiting until all is done
      if (performance.now() - this.#looked > HOLD_MS) {
        await turn();
        this.#looked = performance.now();
      }
      this.check();
      try {
        return await work();
      } catch (error) {
        throw this.#typed(what, error);
      }
    });
    this.#tail = done.catch(() => undefined);
    return done;
  }

  /** @throws DeviceLostError if the runtime has broken down */
  check(): void {
    if (this.#loss) throw new DeviceLostError(this.#loss.message);
  }

  /** Lets no more work begin. */
  close(message: string): void {
    this.#loss ??= { message };
  }

  /** Whether the runtime has broken down. */
  get broken(): boolean {
    return this.#broken;
  }

  #typed(what: string, error: unknown): unknown {
    if (error instanceof OutOfMemoryError || error instanceof DeviceLostError) return error;
    const message = error instanceof Error ? error.message : String(error);
    if (!this.survives(error)) {
      this.#broken = true;
      this.#loss = { message: `ONNX Runtime broke down in ${what}: ${message}` };
      this.#lose(this.#loss);
      return new DeviceLostError(this.#loss.message, { cause: error });
    }
    return isOutOfMemory(error) ? outOfMemory(what, error) : error;
  }
}

/** What runtimes and JavaScript say when there is no more memory, or could never be: a size beyond 32 bits. */
const NO_MEMORY =
  /bad_alloc|bad allocation|allocat\w* (failed|memory|a buffer)|out of memory|invalid array (buffer )?length|SafeInt/i;

export const isOutOfMemory = (error: unknown): boolean =>
  error instanceof Error && NO_MEMORY.test(error.message);

export const outOfMemory = (what: string, cause: unknown): OutOfMemoryError =>
  new OutOfMemoryError(
    `There is no memory for ${what}. Use a smaller batch or model, or close other programs.`,
    {
      cause,
    },
  );
