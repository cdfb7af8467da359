/** Writing and reading the files of one checkpoint. */
import { BadRequestError, UnprocessableEntityError } from '../api/contract/errors';
import {
  ADAPTER_FILE,
  CONFIG_FILE,
  OPTIMIZER_FILE,
  checkpointFiles,
  damaged,
  readAdapter,
  readOptimizer,
  sha256,
} from './adapter-files';
import type { CheckpointRecord, FileRecord, SaveOptions, SavedAdapter } from './catalog-types';
import { pathOf } from './records';
import { storageError, type Store } from './store';

/** Files that are on disk, and that no record names yet. */
export interface WrittenCheckpoint {
  readonly folder: string;
  readonly files: readonly FileRecord[];
  /** After the record is there. */
  close(): Promise<void>;
  /** After the record could not be written: removes the files, unless it is there after all. */
  abandon(key: string): Promise<void>;
}

/** Writes the files of a checkpoint into a new folder. If one cannot be written, none stays. */
export async function writeCheckpoint(
  store: Store,
  { adapter, matrices, optimizer }: Pick<SaveOptions, 'adapter' | 'matrices' | 'optimizer'>,
): Promise<WrittenCheckpoint> {
  const writer = await store.createFolder();
  // a folder that cannot be removed is an orphan, and removed at the next start
  const discard = (): Promise<void> => writer.discard().catch(() => undefined);
  const files: FileRecord[] = [];
  try {
    for (const { name, bytes } of checkpointFiles(adapter, matrices, optimizer)) {
      files.push({ name, bytes: bytes.length, sha256: await sha256(bytes) });
      await writer.write(name, bytes);
    }
  } catch (error) {
    await discard();
    throw error;
  }
  return {
    folder: writer.id,
    files,
    close: () => writer.close(),
    abandon: async (key) => {
      const filed = await store.get('checkpoints', key).catch(() => undefined);
      await (filed?.folder === writer.id ? writer.close() : discard());
    },
  };
}

/** One file as a blob, of the size that the record says. */
async function openFile(store: Store, record: CheckpointRecord, name: string): Promise<Blob> {
  const refuse = damaged(pathOf(record), name);
  const expected = record.files.find((file) => file.name === name);
  if (!expected) return refuse('is not part of the checkpoint');
  const blob = await store.readFile(record.folder, name);
  if (!blob) return refuse('is missing');
  if (blob.size !== expected.bytes) refuse(`has ${blob.size} bytes, expected ${expected.bytes}`);
  return blob;
}

async function readVerified(store: Store, record: CheckpointRecord, name: string): Promise<ArrayBuffer> {
  const blob = await openFile(store, record, name);
  let bytes: ArrayBuffer;
  try {
    bytes = await blob.arrayBuffer();
  } catch (error) {
    throw storageError(error, `read ${name} of ${pathOf(record)}`);
  }
  const expected = record.files.find((file) => file.name === name)!.sha256;
  if ((await sha256(new Uint8Array(bytes))) !== expected) {
    damaged(pathOf(record), name)('is damaged: its SHA-256 is not the one it was saved with');
  }
  return bytes;
}

function checkFormat(record: CheckpointRecord): void {
  if (record.format === 1) return;
  throw new UnprocessableEntityError(
    `${pathOf(record)}: is of format ${String(record.format)}, made by another version of this library`,
  );
}

/** @throws what `Catalog.load` does */
export async function readCheckpoint(
  store: Store,
  record: CheckpointRecord,
  want: { readonly optimizer: boolean },
): Promise<SavedAdapter> {
  checkFormat(record);
  const path = pathOf(record);
  if (want.optimizer && !record.files.some(({ name }) => name === OPTIMIZER_FILE)) {
    throw new BadRequestError(`path: ${path} has no optimizer state; load it without`);
  }
  const matrices = readAdapter(
    await readVerified(store, record, ADAPTER_FILE),
    record.adapter.rank,
    damaged(path, ADAPTER_FILE),
  );
  // not needed to train on; a checkpoint is verified whole all the same
  await readVerified(store, record, CONFIG_FILE);
  if (!want.optimizer) return { record, matrices, optimizer: null };
  const optimizer = readOptimizer(
    await readVerified(store, record, OPTIMIZER_FILE),
    matrices,
    damaged(path, OPTIMIZER_FILE),
  );
  return { record, matrices, optimizer };
}

/** The files that others can use: an adapter in PEFT's layout, without the optimizer's state. */
export async function filesOf(store: Store, record: CheckpointRecord): Promise<ReadonlyMap<string, Blob>> {
  checkFormat(record);
  const names = [ADAPTER_FILE, CONFIG_FILE];
  return new Map(
    await Promise.all(names.map(async (name) => [name, await openFile(store, record, name)] as const)),
  );
}
