/** What the cases of the contract share. */
import type { CheckpointRecord } from '../../../src/checkpoints/catalog-types';
import type { JsonRecord, Store } from '../../../src/checkpoints/store';

/** Of one case: handles on one and the same store, as a second tab or the next start has them. */
export type OpenStore = () => Promise<Store>;

/** By what each says. */
export type StoreCases = Readonly<Record<string, (open: OpenStore) => Promise<void>>>;

export const bytesOf = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text);
export const keyOf = (path: string): string => path.slice('tinker://'.length);
export const page = { limit: 100, offset: 0 };
export const names = (list: { checkpoints: readonly { checkpointId: string }[] }): string[] =>
  list.checkpoints.map(({ checkpointId }) => checkpointId);

/** Puts other files in place of a checkpoint's: undefined removes one. */
export async function tamper(
  store: Store,
  path: string,
  change: (name: string, bytes: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer> | undefined,
  changeRecord: (record: CheckpointRecord) => Partial<CheckpointRecord> = () => ({}),
): Promise<void> {
  const record = (await store.get('checkpoints', keyOf(path))) as unknown as CheckpointRecord;
  const writer = await store.createFolder();
  for (const { name } of record.files) {
    const blob = await store.readFile(record.folder, name);
    const bytes = change(name, new Uint8Array(await blob!.arrayBuffer()));
    if (bytes) await writer.write(name, bytes);
  }
  await store.update('checkpoints', keyOf(path), (current) => ({
    ...current,
    folder: writer.id,
    ...changeRecord(record),
  }));
  await writer.close();
}

/** The checksum of a changed file, as if it had been saved so. */
async function withSum(
  record: CheckpointRecord,
  name: string,
  bytes: Uint8Array<ArrayBuffer>,
): Promise<JsonRecord> {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  const sha256 = Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
  const files = record.files.map((file) =>
    file.name === name ? { name, bytes: bytes.length, sha256 } : file,
  );
  return { ...record, files };
}

/** A file of a checkpoint replaced by another that is rightly recorded. */
export async function replaceFile(
  store: Store,
  path: string,
  name: string,
  bytes: Uint8Array<ArrayBuffer>,
): Promise<void> {
  const record = (await store.get('checkpoints', keyOf(path))) as unknown as CheckpointRecord;
  const changed = await withSum(record, name, bytes);
  await tamper(
    store,
    path,
    (file, old) => (file === name ? bytes : old),
    () => ({ files: changed.files as CheckpointRecord['files'] }),
  );
}
