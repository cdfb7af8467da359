/**
 * What checkpoints are kept in: small JSON records, each replaced as a whole,
 * and folders of large files. A checkpoint is a record that names its folder,
 * written last: until then nothing sees the files.
 *
 * Implemented over OPFS and IndexedDB (browsers), a folder (Node), and memory
 * (tests); one suite checks all three. Everything is durable when its promise
 * resolves. Failures are `StorageError`, or `StorageFullError` without room.
 */
import {
  StorageError,
  StorageFullError,
  TinkerError,
  UnprocessableEntityError,
} from '../api/contract/errors';
import type { StorageKind, StorageUsagePayload } from '../api/contract/types';

export const COLLECTIONS = ['sessions', 'runs', 'checkpoints'] as const;
export type Collection = (typeof COLLECTIONS)[number];

/** Any JSON value that is an object. */
export type JsonRecord = Readonly<Record<string, unknown>>;

/** Says what is to stand in a record's place: another, the same, or nothing. It does not wait, and may throw. */
export type RecordChange = (current: JsonRecord | undefined) => JsonRecord | undefined;

/** What a listing found. */
export interface RecordList {
  /** by key, in the keys' order */
  readonly records: ReadonlyMap<string, JsonRecord>;
  /** keys, or file names, of records that are there and cannot be read */
  readonly damaged: readonly string[];
}

export interface Store {
  readonly kind: StorageKind;

  /**
   * Undefined when there is none.
   * @throws UnprocessableEntityError if it is damaged
   */
  get(collection: Collection, key: string): Promise<JsonRecord | undefined>;
  /** The records whose keys start with `prefix` (default: all). */
  list(collection: Collection, prefix?: string): Promise<RecordList>;
  /**
   * Makes, replaces or removes one record, as one step between whose reading and writing
   * no other tab or process comes. When `change` throws, nothing changes and that is the rejection.
   */
  update(collection: Collection, key: string, change: RecordChange): Promise<void>;
  /** Removes a record, even one that cannot be read. */
  remove(collection: Collection, key: string): Promise<void>;

  /** A new empty folder, which this store's owner writes now. */
  createFolder(): Promise<FolderWriter>;
  /** A file of a folder, read from disk as the blob is; undefined when there is none. */
  readFile(folder: string, name: string): Promise<Blob | undefined>;
  /** Removes a folder and its files; one that is gone already is no error. */
  removeFolder(folder: string): Promise<void>;
  /**
   * Folders that nobody alive, in any tab or process, is writing now. A record that is
   * listed after this names every one of them that was ever finished and still counts.
   */
  listFolders(): Promise<string[]>;

  /** What the platform says of the space; see `StorageUsagePayload`. */
  space(): Promise<Pick<StorageUsagePayload, 'estimate' | 'persisted'>>;
  close(): Promise<void>;
}

/** Writes the files of one folder. Ends with `close` or `discard`. */
export interface FolderWriter {
  /** of the folder */
  readonly id: string;
  /** Writes a whole file. */
  write(name: string, bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  /** Ends the writing. Call it after the record that names the folder is there. */
  close(): Promise<void>;
  /** Removes the folder. */
  discard(): Promise<void>;
}

/** Folders are named by UUIDs; whatever else lies beside them is not the store's. */
export const isFolderId = (name: string): boolean => /^[0-9a-f-]{36}$/.test(name);

/** Names of folders come from records: one that could lead elsewhere is refused. */
export function checkFolderId(id: string): string {
  if (isFolderId(id)) return id;
  throw new UnprocessableEntityError(`checkpoints: ${JSON.stringify(id)} is no folder of checkpoints`);
}

/** Names of `DOMException`s and codes of Node's errors that mean there is no room. */
const FULL = new Set(['QuotaExceededError', 'ENOSPC', 'EDQUOT', 'EFBIG']);

/**
 * What a platform threw, as one of this library's errors.
 * @param doing words after "cannot", e.g. `write adapter_config.json`
 */
export function storageError(error: unknown, doing: string): TinkerError {
  if (error instanceof TinkerError) return error;
  const { name, code, message } = error as { name?: string; code?: unknown; message?: string };
  const full = FULL.has(name ?? '') || FULL.has(String(code));
  const Class = full ? StorageFullError : StorageError;
  const reason = full ? 'there is no room; delete checkpoints or free space' : (message ?? String(error));
  return new Class(`checkpoints: cannot ${doing}: ${reason}`, { cause: error });
}

/** Runs `action`, turning what it throws into `storageError`s. */
export async function guarded<T>(doing: string, action: () => T | Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    throw storageError(error, doing);
  }
}
