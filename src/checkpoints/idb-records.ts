/** Records in IndexedDB, one object store for each collection. */
import { openDB, type IDBPDatabase } from 'idb';
import {
  COLLECTIONS,
  guarded,
  type Collection,
  type JsonRecord,
  type RecordChange,
  type RecordList,
} from './store';

export class IdbRecords {
  readonly #db: IDBPDatabase;

  private constructor(db: IDBPDatabase) {
    this.#db = db;
  }

  static async open(name: string): Promise<IdbRecords> {
    const db = await openDB(name, 1, {
      upgrade: (fresh) => COLLECTIONS.forEach((collection) => fresh.createObjectStore(collection)),
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
    return guarded(`list ${collection}`, async () => {
      const { store } = this.#db.transaction(collection);
      const range = prefix === '' ? null : IDBKeyRange.bound(prefix, prefix + '\uffff');
      const [keys, values] = await Promise.all([store.getAllKeys(range), store.getAll(range)]);
      const records = new Map(keys.map((key, i) => [key as string, values[i] as JsonRecord]));
      return { records, damaged: [] };
    });
  }

  /** A transaction holds others, of any tab, off until it is done. */
  update(collection: Collection, key: string, change: RecordChange): Promise<void> {
    return guarded(`write the record of '${key}'`, async () => {
      const transaction = this.#db.transaction(collection, 'readwrite', { durability: 'strict' });
      const done = transaction.done;
      try {
        const value = change((await transaction.store.get(key)) as JsonRecord | undefined);
        await (value === undefined ? transaction.store.delete(key) : transaction.store.put(value, key));
      } catch (error) {
        // it says what this catch says
        done.catch(() => undefined);
        // one that failed is over already
        if (transaction.error === null) transaction.abort();
        throw error;
      }
      await done;
    });
  }

  close(): void {
    this.#db.close();
  }
}
