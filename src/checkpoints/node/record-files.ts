/** Records as files, one each: the CRC-32 of the rest, a line end, then `{ key, value }` as JSON. */
import { createHash, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { UnprocessableEntityError } from '../../api/contract/errors';
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

/** All records of a collection, as they were after a change. */
interface Snapshot {
  /** the number that the change had in the mutex; while it is the latest, this is how they are */
  readonly change: number;
  readonly list: RecordList;
}

export class RecordFiles {
  readonly #root: string;
  readonly #temporary: string;
  readonly #mutex: Mutex;
  readonly #snapshots = new Map<Collection, Snapshot>();
  /** being read */
  readonly #reading = new Map<Collection, { readonly change: number; readonly list: Promise<RecordList> }>();

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

  /** Thousands of files are read once, and again only after a change by another process. */
  async list(collection: Collection, prefix: string): Promise<RecordList> {
    const change = await this.#mutex.latest();
    const snapshot = this.#snapshots.get(collection);
    if (snapshot && snapshot.change === change) return startingWith(snapshot.list, prefix);
    if (prefix !== '' || change === undefined) return this.#read(collection, prefix);
    let reading = this.#reading.get(collection);
    if (reading?.change !== change) {
      const list = this.#readAll(collection, change);
      this.#reading.set(collection, (reading = { change, list }));
    }
    return reading.list;
  }

  update(collection: Collection, key: string, change: RecordChange): Promise<void> {
    return this.#mutex.run(async (number) => {
      const value = change(await this.get(collection, key));
      if (value === undefined) await this.#remove(collection, key);
      else await this.#put(collection, key, value);
      this.#changed(number, collection, key, value);
    });
  }

  remove(collection: Collection, key: string): Promise<void> {
    return this.#mutex.run(async () => {
      await this.#remove(collection, key);
      // it may have been one of the damaged
      this.#snapshots.clear();
    });
  }

  async #readAll(collection: Collection, change: number): Promise<RecordList> {
    try {
      const list = await this.#read(collection, '');
      // else others came in between
      if ((await this.#mutex.latest()) === change) this.#snapshots.set(collection, { change, list });
      return list;
    } finally {
      if (this.#reading.get(collection)?.change === change) this.#reading.delete(collection);
    }
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

  /** Takes a change of this process over into what was read before, if nobody else changed anything since. */
  #changed(number: number, collection: Collection, key: string, value: JsonRecord | undefined): void {
    for (const [of, { change, list }] of this.#snapshots) {
      if (change !== number - 1) this.#snapshots.delete(of);
      else if (of !== collection) this.#snapshots.set(of, { change: number, list });
      else {
        const records = new Map(list.records);
        if (value === undefined) records.delete(key);
        else records.set(key, value);
        this.#snapshots.set(of, { change: number, list: { ...list, records } });
      }
    }
  }
}

function startingWith(list: RecordList, prefix: string): RecordList {
  const found = [...list.records].filter(([key]) => key.startsWith(prefix));
  return { ...list, records: new Map(found.sort(([a], [b]) => (a < b ? -1 : 1))) };
}

function parse(text: string): { readonly key: string; readonly value: JsonRecord } | undefined {
  const end = text.indexOf('\n');
  const json = text.slice(end + 1);
  // a matching sum says that it is JSON of our own making
  return end > 0 && crc32(json).toString(16) === text.slice(0, end)
    ? (JSON.parse(json) as { key: string; value: JsonRecord })
    : undefined;
}
