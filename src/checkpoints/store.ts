/**
 * What checkpoints are kept in: small JSON records, each replaced as a whole,
 * and folders of large files. A checkpoint is a record that names its folder,
 * written last: until then nothing sees the files.
 *
 * Implemented over OPFS and IndexedDB (browsers), a folder (Node), and memory
 * (tests); one suite checks all three. Everything is durable when its promise
 * resolves. Failures are `StorageError`, or `StorageFullError` without room.
 */
import type { StorageKind, StorageUsagePayload } from '../api/contract/types';

export const COLLECTIONS = ['sessions', 'runs', 'checkpoints'] as const;
export type Collection = (typeof COLLECTIONS)[number];

/** Any JSON value that is an object. */
export type JsonRecord = Readonly<Record<string, unknown>>;

export interface Store {
  readonly kind: StorageKind;

  /** Undefined when there is none. */
  get(collection: Collection, key: string): Promise<JsonRecord | undefined>;
  /** The records whose keys start with `prefix` (default: all), by key. */
  list(collection: Collection, prefix?: string): Promise<ReadonlyMap<string, JsonRecord>>;
  /** Puts a record under a key that has none; false, and nothing changes, if it has. Atomic across tabs and processes. */
  insert(collection: Collection, key: string, value: JsonRecord): Promise<boolean>;
  /** Puts a record, in place of another if there is one; returns that. */
  put(collection: Collection, key: string, value: JsonRecord): Promise<JsonRecord | undefined>;
  /** Removes a record and returns it; undefined if there was none. */
  delete(collection: Collection, key: string): Promise<JsonRecord | undefined>;

  /** A new empty folder, which this store's owner writes now. */
  createFolder(): Promise<FolderWriter>;
  /**
   * A file of a folder, read from disk as the blob is.
   * @throws StorageError without such a file
   */
  readFile(folder: string, name: string): Promise<Blob>;
  /** Removes a folder and its files; one that is gone already is no error. */
  removeFolder(folder: string): Promise<void>;
  /** Folders that nobody alive, in any tab or process, is writing now. */
  listFolders(): Promise<string[]>;

  /** What the platform says of the space; see `StorageUsagePayload`. */
  space(): Promise<Pick<StorageUsagePayload, 'estimate' | 'persisted'>>;
  close(): Promise<void>;
}

/** Writes the files of one folder. Ends with `close` or `discard`. */
export interface FolderWriter {
  /** of the folder */
  readonly id: string;
  /** Writes a whole file, from parts that follow each other. */
  write(name: string, parts: readonly Uint8Array<ArrayBuffer>[]): Promise<void>;
  /** Ends the writing; the files are on disk. Call it after the record that names the folder is there. */
  close(): Promise<void>;
  /** Removes the folder. */
  discard(): Promise<void>;
}
