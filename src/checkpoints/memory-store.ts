/** A store that ends with its process. */
import { StorageError } from '../api/contract/errors';
import type { StorageUsagePayload } from '../api/contract/types';
import {
  checkFolderId,
  COLLECTIONS,
  type Collection,
  type FolderWriter,
  type JsonRecord,
  type RecordChange,
  type RecordList,
  type Store,
} from './store';

export class MemoryStore implements Store {
  readonly kind = 'memory';
  readonly #records = Object.fromEntries(
    COLLECTIONS.map((name) => [name, new Map<string, JsonRecord>()]),
  ) as Record<Collection, Map<string, JsonRecord>>;
  readonly #folders = new Map<string, Map<string, Blob>>();
  readonly #writing = new Set<string>();

  async get(collection: Collection, key: string): Promise<JsonRecord | undefined> {
    return structuredClone(this.#records[collection].get(key));
  }

  async list(collection: Collection, prefix = ''): Promise<RecordList> {
    const found = [...this.#records[collection]].filter(([key]) => key.startsWith(prefix));
    found.sort(([a], [b]) => (a < b ? -1 : 1));
    return { records: structuredClone(new Map(found)), damaged: [] };
  }

  async update(collection: Collection, key: string, change: RecordChange): Promise<void> {
    const records = this.#records[collection];
    const value = change(structuredClone(records.get(key)));
    if (value === undefined) records.delete(key);
    else records.set(key, structuredClone(value));
  }

  async remove(collection: Collection, key: string): Promise<void> {
    this.#records[collection].delete(key);
  }

  async createFolder(): Promise<FolderWriter> {
    const id = crypto.randomUUID();
    const files = new Map<string, Blob>();
    this.#folders.set(id, files);
    this.#writing.add(id);
    const end = (): void => void this.#writing.delete(id);
    return {
      id,
      write: async (name, bytes) => {
        if (!this.#folders.has(id)) throw new StorageError(`checkpoints: folder ${id} is gone`);
        files.set(name, new Blob([bytes]));
      },
      close: async () => end(),
      discard: async () => {
        this.#folders.delete(id);
        end();
      },
    };
  }

  async readFile(folder: string, name: string): Promise<Blob | undefined> {
    return this.#folders.get(checkFolderId(folder))?.get(name);
  }

  async removeFolder(folder: string): Promise<void> {
    this.#folders.delete(checkFolderId(folder));
  }

  async listFolders(): Promise<string[]> {
    return [...this.#folders.keys()].filter((id) => !this.#writing.has(id));
  }

  async space(): Promise<Pick<StorageUsagePayload, 'estimate' | 'persisted'>> {
    return { estimate: null, persisted: null };
  }

  async close(): Promise<void> {
    // nothing is held: another catalog may be opened over what is here
  }
}
