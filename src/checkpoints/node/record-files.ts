/** Records as files, one each: the CRC-32 of the rest, a line end, then `{ key, value }` as JSON. */
import { createHash, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { UnprocessableEntityError } from '../../api/contract/errors';
import { Snapshots } from '../snapshots';
import type { Collection, JsonRecord, RecordChange, RecordList } from '../store';
import { syncDirectory, writeSynced } from './files';
import { SELF } from './liveness';
import type { Mutex } from './mutex';

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

/** Where a record is, within the directory of its collection. Long keys end in a hash, so that no two share a name. */
export function fileName(key: string): string {
  const start = beginning(key);
  const hash = (): string => createHash('sha256').update(key).digest('hex');
  return start.length > KEPT ? `${start}~${hash()}.json` : `${start}.json`;
}

/** What is in the file of a record. */
export function fileText(key: string, value: JsonRecord): string {
  const json = JSON.stringify({ key, value });
  return `${crc32(json).toString(16)}\n${json}`;
}

/** Files read in one go before others get their turn. */
const BATCH = 250;

export class RecordFiles {
  readonly #root: string;
  readonly #temporary: string;
  readonly #mutex: Mutex;
  /** thousands of files are read once, and again only after a change by another process */
  readonly #snapshots: Snapshots;

  /** @param temporary a directory on the same disk */
  constructor(root: string, temporary: string, mutex: Mutex) {
    this.#root = root;
    this.#temporary = temporary;
    this.#mutex = mutex;
    this.#snapshots = new Snapshots(
      () => mutex.latest(),
      (collection, prefix) => this.#read(collection, prefix),
    );
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

  list(collection: Collection, prefix: string): Promise<RecordList> {
    return this.#snapshots.list(collection, prefix);
  }

  update(collection: Collection, key: string, change: RecordChange): Promise<void> {
    return this.#mutex.run(async (number) => {
      const value = change(await this.get(collection, key));
      if (value === undefined) await this.#remove(collection, key);
      else await this.#put(collection, key, value);
      this.#snapshots.changed(number, collection, key, value);
    });
  }

  remove(collection: Collection, key: string): Promise<void> {
    return this.#mutex.run(async () => {
      await this.#remove(collection, key);
      // it may have been one of the damaged
      this.#snapshots.clear();
    });
  }

  async #read(collection: Collection, prefix: string): Promise<RecordList> {
    const directory = join(this.#root, collection);
    const start = beginning(prefix);
    const names = (await readdir(directory)).filter((name) => name.startsWith(start));
    const found: [string, JsonRecord][] = [];
    const damaged: string[] = [];
    for (const [i, name] of names.entries()) {
      if (i % BATCH === BATCH - 1) await new Promise(setImmediate);
      let text: string;
      try {
        // one by one and synchronously is several times faster than through the thread pool
        text = readFileSync(join(directory, name), 'utf8');
      } catch (error) {
        // removed since the directory was read
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') continue;
        throw error;
      }
      const record = parse(text);
      if (!record) damaged.push(name);
      else if (record.key.startsWith(prefix)) found.push([record.key, record.value]);
    }
    found.sort(([a], [b]) => (a < b ? -1 : 1));
    return { records: new Map(found), damaged };
  }

  async #put(collection: Collection, key: string, value: JsonRecord): Promise<void> {
    const temporary = join(this.#temporary, `${SELF}~${randomUUID()}`);
    try {
      await writeSynced(temporary, fileText(key, value));
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
  return end > 0 && crc32(json).toString(16) === text.slice(0, end)
    ? (JSON.parse(json) as { key: string; value: JsonRecord })
    : undefined;
}
