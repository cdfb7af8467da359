/**
 * One at a time, across processes, and across the death of any of them.
 *
 * A process that wants its turn makes an empty file with its name, its claim,
 * and links it to the next number in the directory of the mutex, which only one
 * can. It holds the lock until it removes the claim, or dies. Nothing is written
 * into these files, so that the lock can be had on a full disk as well.
 *
 * Lower numbers are rubbish. A process that slept over all this may still link a
 * number that others have removed since, but then sees a higher one and knows it
 * was late.
 */
import { randomUUID } from 'node:crypto';
import { link, readdir, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { StorageError } from '../../api/contract/errors';
import { ageOf, isGone, SELF } from './liveness';

/** Holders need milliseconds. One that needs longer has lost the lock with its thread, ms. */
const LEASE_MS = 60_000;
/** How long to wait for others before giving up, ms. */
const PATIENCE_MS = 120_000;

const codeOf = (error: unknown): string | undefined => (error as NodeJS.ErrnoException).code;

/** The identity of a file, and under how many names it is known; undefined when it is gone. */
async function identify(file: string): Promise<{ readonly ino: bigint; readonly nlink: bigint } | undefined> {
  try {
    return await stat(file, { bigint: true });
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

export class Mutex {
  readonly #directory: string;
  readonly #claims: string;
  /** the turns of this process */
  #last: Promise<unknown> = Promise.resolve();

  /** @param claims a directory on the same disk; files in it are named `PROCESS~…` */
  constructor(directory: string, claims: string) {
    this.#directory = directory;
    this.#claims = claims;
  }

  /**
   * Runs `action` while nobody else, here or in another process, runs one. It is given its number.
   * Numbers count up by one: in between, nobody has run any.
   */
  run<T>(action: (number: number) => Promise<T>): Promise<T> {
    const turn = this.#last.then(async () => {
      const claim = join(this.#claims, `${SELF}~${randomUUID()}`);
      await writeFile(claim, '', { flag: 'wx' });
      try {
        return await action(await this.#acquire(claim));
      } finally {
        await rm(claim, { force: true });
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

  async #acquire(claim: string): Promise<number> {
    for (const start = Date.now(); Date.now() - start < PATIENCE_MS;) {
      const numbers = await this.#numbers();
      const top = numbers[0] ?? 0;
      if (top > 0 && !(await this.#isFree(top))) {
        await sleep(1 + Math.random() * 4);
        continue;
      }
      // the lease begins now
      await utimes(claim, new Date(), new Date());
      try {
        await link(claim, this.#file(top + 1));
      } catch (error) {
        if (codeOf(error) === 'EEXIST') continue;
        throw error;
      }
      const [highest] = await this.#numbers();
      if (highest === top + 1) {
        await Promise.all(numbers.map((number) => rm(this.#file(number), { force: true })));
        return highest;
      }
      await rm(this.#file(top + 1), { force: true });
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
    const lock = await identify(file);
    // a higher number has come
    if (!lock) return false;
    if (lock.nlink === 1n || ageOf(file) > LEASE_MS) return true;
    for (const name of await readdir(this.#claims)) {
      const claim = join(this.#claims, name);
      if ((await identify(claim))?.ino === lock.ino) return isGone(name.split('~')[0]!, claim);
    }
    // the claim was removed just now
    return true;
  }
}
