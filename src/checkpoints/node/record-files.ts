/** Records as files, one each: the SHA-256 of the rest, a line end, then `{ key, value }` as JSON. */
import { createHash, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { UnprocessableEntityError } from '../../api/contract/errors';
import type { Collection, JsonRecord, RecordChange, RecordList } from '../store';
import { syncDirectory, writeSynced } from './files';
import { SELF } from './liveness';
import type { Mutex } from './mutex';

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

/** Longest part of a name that is the key itself. With the rest it is within what file systems take, 255 bytes. */
const KEPT = 150;

/**
 * The beginning of a key's file name. Only small letters, digits and a few signs
 * stand for themselves: file systems may not tell capitals, or spellings of one
 * letter, apart, and some names are taken on Windows (which `_` prevents).
 */
const beginning = (key: string): string => {
  const escape = (byte: number): string => `%${byte.toString(16).padStart(2, '0')}`;
  const bytes = new TextEncoder().encode(key);
  const plain = (byte: number): boolean => /[a-z0-9_-]/.test(String.fromCharCode(byte));
  const name = Array.from(bytes, (byte) => (plain(byte) ? String.fromCharCode(byte) : escape(byte))).join('');
  return `_${name.slice(0, KEPT)}`;
};

/** Long keys end in a hash, so that no two share a name. */
function fileName(key: string): string {
  const start = beginning(key);
  return start.length > KEPT ? `${start}~${sha256(key)}.json` : `${start}.json`;
}

/** Files read in one go before others get their turn. */
const BATCH = 250;

export class RecordFiles {
  readonly #root: string;
  readonly #temporary: string;
  readonly #mutex: Mutex;

  /** @param temporary a directory on the same disk */
  constructor(root: string, temporary: string, mutex: Mutex) {
    this.#root = root;
    this.#temporary = temporary;
    this.#mutex = mutex;
  }

  async get(collection: Collection, key: string): Promise<JsonRecord | undefined> {
    const name = fileName(key);
    let text: string;
    try {
      text = await readFile(join(this.#root, collection, name), 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
    const found = parse(text);
    if (!found || found.key !== key) {
      throw new UnprocessableEntityError(`${key}: its record is damaged (${join(collection, name)})`);
    }
    return found.value;
  }

  async list(collection: Collection, prefix: string): Promise<RecordList> {
    const directory = join(this.#root, collection);
    const start = beginning(prefix);
    const names = (await readdir(directory)).filter((name) => name.startsWith(start));
    const found: [string, JsonRecord][] = [];
    const damaged: string[] = [];
    for (const [i, name] of names.entries()) {
      if (i % BATCH === BATCH - 1) await new Promise(setImmediate);
      let text: string;
      try {
        // thousands of small files: one by one and synchronously is several times faster than through the thread pool
        text = readFileSync(join(directory, name), 'utf8');
      } catch (error) {
        // removed since the directory was read
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') continue;
        throw error;
      }
      const record = parse(text);
      if (!record || fileName(record.key) !== name) damaged.push(name);
      else if (record.key.startsWith(prefix)) found.push([record.key, record.value]);
    }
    found.sort(([a], [b]) => (a < b ? -1 : 1));
    return { records: new Map(found), damaged };
  }

  update(collection: Collection, key: string, change: RecordChange): Promise<void> {
    return this.#mutex.run(async () => {
      const value = change(await this.get(collection, key));
      if (value === undefined) await this.#remove(collection, key);
      else await this.#put(collection, key, value);
    });
  }

  remove(collection: Collection, key: string): Promise<void> {
    return this.#mutex.run(() => this.#remove(collection, key));
  }

  async #put(collection: Collection, key: string, value: JsonRecord): Promise<void> {
    const temporary = join(this.#temporary, `${SELF}~${randomUUID()}`);
    const json = JSON.stringify({ key, value });
    try {
      await writeSynced(temporary, `${sha256(json)}\n${json}`);
      await rename(temporary, join(this.#root, collection, fileName(key)));
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
    await syncDirectory(join(this.#root, collection));
  }

  async #remove(collection: Collection, key: string): Promise<void> {
    await rm(join(this.#root, collection, fileName(key)), { force: true });
    await syncDirectory(join(this.#root, collection));
  }
}

function parse(text: string): { readonly key: string; readonly value: JsonRecord } | undefined {
  const end = text.indexOf('\n');
  const json = text.slice(end + 1);
  // a matching sum says that it is JSON of our own making
  return end > 0 && sha256(json) === text.slice(0, end)
    ? (JSON.parse(json) as { key: string; value: JsonRecord })
    : undefined;
}
