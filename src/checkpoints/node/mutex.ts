/**
 * One at a time, across processes, and across the death of any of them.
 *
 * The directory holds numbered files. The highest number is the lock: who made
 * it holds the lock until the file is empty, or until its process is gone. The
 * next holder links the next number, which only one can; lower numbers are
 * rubbish. A process that slept over all this may still link a number that
 * others have removed since, but then sees a higher one and knows it was late.
 */
import { randomUUID } from 'node:crypto';
import { link, readdir, readFile, truncate, unlink, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { StorageError } from '../../api/contract/errors';
import { ageOf, isGone, SELF } from './liveness';

/** Holders need milliseconds. One that needs longer has lost the lock with its thread, ms. */
const LEASE_MS = 60_000;
/** How long to wait for others before giving up, ms. */
const PATIENCE_MS = 120_000;

const codeOf = (error: unknown): string | undefined => (error as NodeJS.ErrnoException).code;

export class Mutex {
  readonly #directory: string;
  /** for a file before it is linked */
  readonly #temporary: () => string;
  /** the turns of this process */
  #last: Promise<unknown> = Promise.resolve();

  constructor(directory: string, temporaryDirectory: string) {
    this.#directory = directory;
    this.#temporary = () => join(temporaryDirectory, `${SELF}~${randomUUID()}`);
  }

  /**
   * Runs `action` while nobody else, here or in another process, runs one. It is given its number.
   * Numbers count up by one: in between, nobody has run any.
   */
  run<T>(action: (number: number) => Promise<T>): Promise<T> {
    const turn = this.#last.then(async () => {
      const number = await this.#acquire();
      try {
        return await action(number);
      } finally {
        // gone only if the lease ran out
        await truncate(this.#file(number)).catch((error: unknown) => {
          if (codeOf(error) !== 'ENOENT') throw error;
        });
      }
    });
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  /** The number of the last to have run, 0 before the first; undefined while one runs. */
  async latest(): Promise<number | undefined> {
    const [top = 0] = await this.#numbers();
    return top === 0 || (await this.#isFree(top)) ? top : undefined;
  }

  async #acquire(): Promise<number> {
    const claim = this.#temporary();
    await writeFile(claim, SELF, { flag: 'wx' });
    try {
      for (const start = Date.now(); Date.now() - start < PATIENCE_MS;) {
        const numbers = await this.#numbers();
        const top = numbers[0] ?? 0;
        if (top > 0 && !(await this.#isFree(top))) {
          await sleep(1 + Math.random() * 4);
          continue;
        }
        const next = this.#file(top + 1);
        // the lease begins now
        await utimes(claim, new Date(), new Date());
        try {
          await link(claim, next);
        } catch (error) {
          if (codeOf(error) === 'EEXIST') continue;
          throw error;
        }
        const [highest] = await this.#numbers();
        if (highest === top + 1) {
          await Promise.all(numbers.map((number) => this.#remove(number)));
          return highest;
        }
        await this.#remove(top + 1);
      }
    } finally {
      await unlink(claim);
    }
    throw new StorageError('checkpoints: another process is writing to this folder and does not finish');
  }

  #file(number: number): string {
    return join(this.#directory, String(number));
  }

  /** Highest first. */
  async #numbers(): Promise<number[]> {
    const names = await readdir(this.#directory);
    return names.map(Number).sort((a, b) => b - a);
  }

  async #isFree(number: number): Promise<boolean> {
    const file = this.#file(number);
    try {
      const holder = await readFile(file, 'utf8');
      return holder === '' || ageOf(file) > LEASE_MS || isGone(holder, file);
    } catch (error) {
      // a higher number has come
      if (codeOf(error) === 'ENOENT') return false;
      throw error;
    }
  }

  async #remove(number: number): Promise<void> {
    await unlink(this.#file(number)).catch((error: unknown) => {
      if (codeOf(error) !== 'ENOENT') throw error;
    });
  }
}
