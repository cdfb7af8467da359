/** Records in IndexedDB, one object store for each collection. */
import { openDB, type IDBPDatabase } from 'idb';
import { StorageError } from '../api/contract/errors';
import { Snapshots } from './snapshots';
import {
  COLLECTIONS,
  guarded,
  type Collection,
  type JsonRecord,
  type RecordChange,
  type RecordList,
} from './store';

/** The object store that counts changes, under one key. */
const CHANGES = 'changes';
const COUNT = 'count';

export class IdbRecords {
  readonly #name: string;
  /** undefined when the browser has closed it: it is opened again when it is next needed */
  #db: Promise<IDBPDatabase> | undefined;
  #closed = false;
  readonly #snapshots: Snapshots;

  private constructor(name: string) {
    this.#name = name;
    this.#snapshots = new Snapshots(
      async () => ((await (await this.#open()).get(CHANGES, COUNT)) as number | undefined) ?? 0,
      (collection, prefix) => this.#read(collection, prefix),
    );
  }

  static async open(name: string): Promise<IdbRecords> {
    const records = new IdbRecords(name);
    await records.#open();
    return records;
  }

  /** @throws StorageError once this is closed, or another tab has a later version */
  async #open(): Promise<IDBPDatabase> {
    if (this.#closed) throw new StorageError('checkpoints: the store is closed');
    const lost = (): void => {
      this.#db = undefined;
      this.#snapshots.clear();
    };
    this.#db ??= openDB(this.#name, 1, {
      upgrade: (fresh) => [...COLLECTIONS, CHANGES].forEach((store) => fresh.createObjectStore(store)),
      // a page of a later version, or whoever clears the site's data, waits for this: let them go on
      blocking: (_current, _blocked, event) => {
        lost();
        (event.target as IDBDatabase).close();
      },
      terminated: lost,
    });
    try {
      return await this.#db;
    } catch (error) {
      lost();
      if ((error as Error).name !== 'VersionError') throw error;
      const reason =
        'another tab has opened the store with a later version of this library; reload this page';
      throw new StorageError(`checkpoints: ${reason}`, { cause: error });
    }
  }

  get(collection: Collection, key: string): Promise<JsonRecord | undefined> {
    return guarded(`read the record of '${key}'`, async () => {
      const db = await this.#open();
      return (await db.get(collection, key)) as JsonRecord | undefined;
    });
  }

  list(collection: Collection, prefix: string): Promise<RecordList> {
    return guarded(`list ${collection}`, () => this.#snapshots.list(collection, prefix));
  }

  /** A transaction holds others, of any tab, off until it is done. */
  update(collection: Collection, key: string, change: RecordChange): Promise<void> {
    return guarded(`write the record of '${key}'`, async () => {
      const db = await this.#open();
      const transaction = db.transaction([collection, CHANGES], 'readwrite', { durability: 'strict' });
      const records = transaction.objectStore(collection);
      const changes = transaction.objectStore(CHANGES);
      const done = transaction.done;
      let value: JsonRecord | undefined;
      let count: number;
      try {
        value = change((await records.get(key)) as JsonRecord | undefined);
        count = (((await changes.get(COUNT)) as number | undefined) ?? 0) + 1;
        await changes.put(count, COUNT);
        await (value === undefined ? records.delete(key) : records.put(value, key));
      } catch (error) {
        // it says what this catch says
        done.catch(() => undefined);
        // one that failed is over already
        if (transaction.error === null) transaction.abort();
        throw error;
      }
      await done;
      this.#snapshots.changed(count, collection, key, value);
    });
  }

  close(): void {
    this.#closed = true;
    this.#db?.then(
      (db) => db.close(),
      () => undefined,
    );
  }

  async #read(collection: Collection, prefix: string): Promise<RecordList> {
    const { store } = (await this.#open()).transaction(collection);
    const range = prefix === '' ? null : IDBKeyRange.bound(prefix, prefix + '\uffff');
    const [keys, values] = await Promise.all([store.getAllKeys(range), store.getAll(range)]);
    return { records: new Map(keys.map((key, i) => [key as string, values[i] as JsonRecord])), damaged: [] };
  }
}
