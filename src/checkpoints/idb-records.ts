/** Records in IndexedDB, one object store for each collection. */
import { openDB, type IDBPDatabase } from 'idb';
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
  readonly #db: IDBPDatabase;
  readonly #snapshots: Snapshots;

  private constructor(db: IDBPDatabase) {
    this.#db = db;
    this.#snapshots = new Snapshots(
      async () => ((await db.get(CHANGES, COUNT)) as number | undefined) ?? 0,
      (collection, prefix) => this.#read(collection, prefix),
    );
  }

  static async open(name: string): Promise<IdbRecords> {
    const db = await openDB(name, 1, {
      upgrade: (fresh) => [...COLLECTIONS, CHANGES].forEach((store) => fresh.createObjectStore(store)),
      // a page of a later version waits for this: let it go on
      blocking: (_current, _blocked, event) => (event.target as IDBDatabase).close(),
    });
    return new IdbRecords(db);
  }

  get(collection: Collection, key: string): Promise<JsonRecord | undefined> {
    return guarded(
      `read the record of '${key}'`,
      () => this.#db.get(collection, key) as Promise<JsonRecord | undefined>,
    );
  }

  list(collection: Collection, prefix: string): Promise<RecordList> {
    return guarded(`list ${collection}`, () => this.#snapshots.list(collection, prefix));
  }

  /** A transaction holds others, of any tab, off until it is done. */
  update(collection: Collection, key: string, change: RecordChange): Promise<void> {
    return guarded(`write the record of '${key}'`, async () => {
      const transaction = this.#db.transaction([collection, CHANGES], 'readwrite', { durability: 'strict' });
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
    this.#db.close();
  }

  async #read(collection: Collection, prefix: string): Promise<RecordList> {
    const { store } = this.#db.transaction(collection);
    const range = prefix === '' ? null : IDBKeyRange.bound(prefix, prefix + '\uffff');
    const [keys, values] = await Promise.all([store.getAllKeys(range), store.getAll(range)]);
    return { records: new Map(keys.map((key, i) => [key as string, values[i] as JsonRecord])), damaged: [] };
  }
}
