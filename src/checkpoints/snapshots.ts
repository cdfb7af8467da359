/**
 * Listings remembered until something changes. Stores count their changes, by
 * whichever tab or process: as long as the count stands still, so do the records.
 */
import type { Collection, JsonRecord, RecordList } from './store';

/** All records of a collection, as they were after a change. */
interface Snapshot {
  /** the number of that change */
  readonly change: number;
  readonly list: RecordList;
}

export class Snapshots {
  /** the number of the latest change in the store; undefined while one is being made */
  readonly #latest: () => Promise<number | undefined>;
  readonly #read: (collection: Collection, prefix: string) => Promise<RecordList>;
  readonly #taken = new Map<Collection, Snapshot>();
  readonly #reading = new Map<Collection, { readonly change: number; readonly list: Promise<RecordList> }>();

  constructor(
    latest: () => Promise<number | undefined>,
    read: (collection: Collection, prefix: string) => Promise<RecordList>,
  ) {
    this.#latest = latest;
    this.#read = read;
  }

  async list(collection: Collection, prefix: string): Promise<RecordList> {
    const change = await this.#latest();
    const snapshot = this.#taken.get(collection);
    if (snapshot && snapshot.change === change) return startingWith(snapshot.list, prefix);
    if (prefix !== '' || change === undefined) return this.#read(collection, prefix);
    let reading = this.#reading.get(collection);
    if (reading?.change !== change) {
      const list = this.#take(collection, change);
      this.#reading.set(collection, (reading = { change, list }));
    }
    return reading.list;
  }

  /** Takes a change over that this store has made, if it is the next one after what was read. */
  changed(change: number, collection: Collection, key: string, value: JsonRecord | undefined): void {
    for (const [of, snapshot] of this.#taken) {
      if (snapshot.change !== change - 1) this.#taken.delete(of);
      else if (of !== collection) this.#taken.set(of, { ...snapshot, change });
      else {
        const records = new Map(snapshot.list.records);
        if (value === undefined) records.delete(key);
        else records.set(key, value);
        this.#taken.set(of, { change, list: { ...snapshot.list, records } });
      }
    }
  }

  clear(): void {
    this.#taken.clear();
  }

  async #take(collection: Collection, change: number): Promise<RecordList> {
    try {
      const list = await this.#read(collection, '');
      // else others came in between
      if ((await this.#latest()) === change) this.#taken.set(collection, { change, list });
      return list;
    } finally {
      if (this.#reading.get(collection)?.change === change) this.#reading.delete(collection);
    }
  }
}

function startingWith(list: RecordList, prefix: string): RecordList {
  const found = [...list.records].filter(([key]) => key.startsWith(prefix));
  return { ...list, records: new Map(found.sort(([a], [b]) => (a < b ? -1 : 1))) };
}
