/**
 * The browser's store: folders in the origin private file system, records in
 * IndexedDB. It works in dedicated workers, where files can be written in place
 * and flushed to disk.
 *
 * Whoever writes a folder holds a Web Lock of its name, from before the folder
 * is there until after its record is: the browser frees the lock of a tab or
 * worker that dies, and only then is the folder anybody else's to remove.
 */
import { StorageError } from '../api/contract/errors';
import type { StorageUsagePayload } from '../api/contract/types';
import { IdbRecords } from './idb-records';
import { checkFolderId, guarded, isFolderId, storageError } from './store';
import type { Collection, FolderWriter, JsonRecord, RecordChange, RecordList, Store } from './store';

/** Of workers, and not among the types of pages. */
interface SyncAccessHandle {
  write(bytes: Uint8Array<ArrayBuffer>, options: { at: number }): number;
  flush(): void;
  close(): void;
}
type WritableHandle = FileSystemFileHandle & { createSyncAccessHandle?: () => Promise<SyncAccessHandle> };

export interface OpfsStoreOptions {
  /** of the directory and of the database; stores of one name on one site are one store */
  readonly name?: string;
}

const isMissing = (error: unknown): boolean => (error as Error).name === 'NotFoundError';

export class OpfsStore implements Store {
  readonly kind = 'opfs';
  readonly #name: string;
  readonly #records: IdbRecords;
  /** of the locks of folders being written */
  readonly #lockPrefix: string;

  private constructor(records: IdbRecords, name: string) {
    this.#name = name;
    this.#records = records;
    this.#lockPrefix = `${name}:writing:`;
  }

  /** @throws StorageError where the browser, or a private window, keeps nothing */
  static open({ name = 'webtinker-checkpoints' }: OpfsStoreOptions = {}): Promise<OpfsStore> {
    return guarded('open the store of this site', async () => {
      if (!('createSyncAccessHandle' in FileSystemFileHandle.prototype)) {
        throw new StorageError('checkpoints: the store of this site can be opened in dedicated workers only');
      }
      // first, since a private window may refuse it
      await directoryOf(name);
      return new OpfsStore(await IdbRecords.open(name), name);
    });
  }

  /** Looked up every time: whoever clears the site's data removes it. */
  #folders(): Promise<FileSystemDirectoryHandle> {
    return directoryOf(this.#name);
  }

  get(collection: Collection, key: string): Promise<JsonRecord | undefined> {
    return this.#records.get(collection, key);
  }

  list(collection: Collection, prefix = ''): Promise<RecordList> {
    return this.#records.list(collection, prefix);
  }

  update(collection: Collection, key: string, change: RecordChange): Promise<void> {
    return this.#records.update(collection, key, change);
  }

  remove(collection: Collection, key: string): Promise<void> {
    return this.#records.update(collection, key, () => undefined);
  }

  async createFolder(): Promise<FolderWriter> {
    const id = crypto.randomUUID();
    const release = await this.#lock(id);
    let directory: FileSystemDirectoryHandle;
    try {
      directory = await (await this.#folders()).getDirectoryHandle(id, { create: true });
    } catch (error) {
      release();
      throw storageError(error, 'make a folder');
    }
    return {
      id,
      write: (name, bytes) => guarded(`write ${name}`, () => writeFile(directory, name, bytes)),
      close: async () => release(),
      discard: async () => {
        try {
          await this.removeFolder(id);
        } finally {
          release();
        }
      },
    };
  }

  readFile(folder: string, name: string): Promise<Blob | undefined> {
    return guarded(`read ${name}`, async () => {
      try {
        const directory = await (await this.#folders()).getDirectoryHandle(checkFolderId(folder));
        return await (await directory.getFileHandle(name)).getFile();
      } catch (error) {
        if (isMissing(error)) return undefined;
        throw error;
      }
    });
  }

  removeFolder(folder: string): Promise<void> {
    return guarded('remove a folder', async () => {
      try {
        await (await this.#folders()).removeEntry(checkFolderId(folder), { recursive: true });
      } catch (error) {
        if (!isMissing(error)) throw error;
      }
    });
  }

  listFolders(): Promise<string[]> {
    return guarded('list the folders', async () => {
      const found: string[] = [];
      for await (const name of (await this.#folders()).keys()) found.push(name);
      // after the listing: a lock that was freed before this has left its record behind
      const { held = [] } = await navigator.locks.query();
      const names = new Set(held.map(({ name }) => name));
      return found.filter((id) => isFolderId(id) && !names.has(this.#lockPrefix + id));
    });
  }

  space(): Promise<Pick<StorageUsagePayload, 'estimate' | 'persisted'>> {
    return guarded('ask how much room there is', async () => {
      const [{ usage, quota }, persisted] = await Promise.all([
        navigator.storage.estimate(),
        navigator.storage.persisted(),
      ]);
      const known = usage !== undefined && quota !== undefined;
      return { estimate: known ? { usage, quota } : null, persisted };
    });
  }

  async close(): Promise<void> {
    this.#records.close();
  }

  /** Takes the lock of a folder; what it gives frees it. */
  #lock(id: string): Promise<() => void> {
    return guarded('lock a folder', () => {
      return new Promise<() => void>((taken, failed) => {
        const held = navigator.locks.request(this.#lockPrefix + id, () => {
          return new Promise<void>((release) => taken(release));
        });
        held.catch(failed);
      });
    });
  }
}

async function directoryOf(name: string): Promise<FileSystemDirectoryHandle> {
  const root = await navigator.storage.getDirectory();
  return root.getDirectoryHandle(name, { create: true });
}

async function writeFile(
  directory: FileSystemDirectoryHandle,
  name: string,
  bytes: Uint8Array<ArrayBuffer>,
): Promise<void> {
  const file: WritableHandle = await directory.getFileHandle(name, { create: true });
  const handle = await file.createSyncAccessHandle!();
  try {
    for (let at = 0; at < bytes.length;) {
      const written = handle.write(bytes.subarray(at), { at });
      if (written === 0) throw new DOMException('nothing more was written', 'QuotaExceededError');
      at += written;
    }
    handle.flush();
  } finally {
    handle.close();
  }
}
