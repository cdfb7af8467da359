/**
 * Node's store: a folder on disk, which any number of processes may share.
 *
 *   records/COLLECTION/KEY.json     see `record-files.ts`
 *   folders/ID/FILE                 the files of checkpoints
 *   writing/ID~PROCESS              marks folders that PROCESS writes now
 *   tmp/PROCESS~ID                  files before they are renamed, and claims
 *   mutex/NUMBER                    see `mutex.ts`
 */
import { randomUUID } from 'node:crypto';
import { openAsBlob } from 'node:fs';
import { mkdir, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { UnprocessableEntityError } from '../../api/contract/errors';
import type { StorageUsagePayload } from '../../api/contract/types';
import { checkFolderId, COLLECTIONS, guarded, isFolderId } from '../store';
import type { Collection, FolderWriter, JsonRecord, RecordChange, RecordList, Store } from '../store';
import { syncDirectory, writeSynced } from './files';
import { isGone, SELF } from './liveness';
import { Mutex } from './mutex';
import { RecordFiles } from './record-files';

const FILE_NAME = /^\w[\w.-]*$/;

export class FolderStore implements Store {
  readonly kind = 'folder';
  readonly #folders: string;
  readonly #writing: string;
  readonly #records: RecordFiles;

  private constructor(root: string) {
    this.#folders = join(root, 'folders');
    this.#writing = join(root, 'writing');
    const temporary = join(root, 'tmp');
    this.#records = new RecordFiles(
      join(root, 'records'),
      temporary,
      new Mutex(join(root, 'mutex'), temporary),
    );
  }

  /**
   * @param path of the folder; made if need be
   * @throws StorageError if it cannot be made or written
   */
  static open(path: string): Promise<FolderStore> {
    const root = resolve(path);
    return guarded(`open the folder ${root}`, async () => {
      const parts = [
        'folders',
        'writing',
        'tmp',
        'mutex',
        ...COLLECTIONS.map((name) => join('records', name)),
      ];
      for (const part of parts) await mkdir(join(root, part), { recursive: true });
      for (const part of ['', 'records']) await syncDirectory(join(root, part));
      await removeRemains(join(root, 'tmp'), (name) => name.split('~')[0]!);
      await removeRemains(join(root, 'writing'), (name) => name.split('~')[1]!);
      return new FolderStore(root);
    });
  }

  get(collection: Collection, key: string): Promise<JsonRecord | undefined> {
    return guarded(`read the record of '${key}'`, () => this.#records.get(collection, key));
  }

  list(collection: Collection, prefix = ''): Promise<RecordList> {
    return guarded(`list ${collection}`, () => this.#records.list(collection, prefix));
  }

  update(collection: Collection, key: string, change: RecordChange): Promise<void> {
    return guarded(`write the record of '${key}'`, () => this.#records.update(collection, key, change));
  }

  remove(collection: Collection, key: string): Promise<void> {
    return guarded(`remove the record of '${key}'`, () => this.#records.remove(collection, key));
  }

  async createFolder(): Promise<FolderWriter> {
    const id = randomUUID();
    const path = this.#path(id);
    const mark = join(this.#writing, `${id}~${SELF}`);
    const unmark = (): Promise<void> => guarded('finish a folder', () => rm(mark, { force: true }));
    await guarded('make a folder', async () => {
      await writeFile(mark, '', { flag: 'wx' });
      try {
        await mkdir(path);
        await syncDirectory(this.#folders);
      } catch (error) {
        await rm(path, { recursive: true, force: true });
        await rm(mark, { force: true });
        throw error;
      }
    });
    return {
      id,
      write: (name, bytes) =>
        guarded(`write ${name}`, async () => {
          await writeSynced(join(path, checkName(name)), bytes);
          await syncDirectory(path);
        }),
      close: unmark,
      discard: async () => {
        try {
          await this.removeFolder(id);
        } finally {
          await unmark();
        }
      },
    };
  }

  readFile(folder: string, name: string): Promise<Blob | undefined> {
    return guarded(`read ${name} of a checkpoint`, async () => {
      const path = join(this.#path(folder), checkName(name));
      try {
        // `openAsBlob` does not say what it failed for
        await stat(path);
        return await openAsBlob(path);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
        throw error;
      }
    });
  }

  removeFolder(folder: string): Promise<void> {
    return guarded('remove a folder', () => rm(this.#path(folder), { recursive: true, force: true }));
  }

  listFolders(): Promise<string[]> {
    return guarded('list the folders', async () => {
      const found = await readdir(this.#folders);
      // after the folders: a mark that was removed before this has left its record behind
      const marked = new Set<string>();
      for (const mark of await readdir(this.#writing)) {
        const [id, writer] = mark.split('~') as [string, string];
        if (!isGone(writer, join(this.#writing, mark))) marked.add(id);
      }
      return found.filter((id) => isFolderId(id) && !marked.has(id));
    });
  }

  async space(): Promise<Pick<StorageUsagePayload, 'estimate' | 'persisted'>> {
    return { estimate: null, persisted: null };
  }

  async close(): Promise<void> {
    // nothing is held open
  }

  #path(id: string): string {
    return join(this.#folders, checkFolderId(id));
  }
}

function checkName(name: string): string {
  if (!FILE_NAME.test(name))
    throw new UnprocessableEntityError(`checkpoints: ${JSON.stringify(name)} is no file's name`);
  return name;
}

/** Removes what processes that are gone have left. */
async function removeRemains(directory: string, owner: (name: string) => string): Promise<void> {
  for (const name of await readdir(directory)) {
    const path = join(directory, name);
    if (isGone(owner(name), path)) await rm(path, { force: true });
  }
}
