/** What is removed when a catalog is opened: what a crash has left, and what has expired. */
import type { CheckpointRecord } from './catalog-types';
import { asCheckpoint, isExpired } from './records';
import type { Store } from './store';

export interface Sweep {
  /** folders that no record named */
  readonly orphans: number;
  /** checkpoints */
  readonly expired: number;
}

/** @param now milliseconds since 1970 */
export async function sweep(store: Store, now: () => number): Promise<Sweep> {
  // before the records: see `Store.listFolders`
  const folders = await store.listFolders();
  const { records, damaged } = await store.list('checkpoints');
  const named = new Set<string>();
  let expired = 0;
  for (const [key, record] of records) {
    named.add(asCheckpoint(record).folder);
    if (!isExpired(asCheckpoint(record), now())) continue;
    let removed: CheckpointRecord | undefined;
    await store.update('checkpoints', key, (current) => {
      // another tab may have saved under its name, or given it time
      if (!current || !isExpired(asCheckpoint(current), now())) return current;
      removed = asCheckpoint(current);
      return undefined;
    });
    if (!removed) continue;
    await tryRemove(store, removed.folder);
    expired++;
  }
  let orphans = 0;
  for (const folder of folders) {
    // a record that cannot be read may name any of them
    if (named.has(folder) || damaged.length > 0) continue;
    if (await tryRemove(store, folder)) orphans++;
  }
  return { orphans, expired };
}

/** A folder that cannot be removed yet, as its dying writer still has a file open, goes at the next start. */
async function tryRemove(store: Store, folder: string): Promise<boolean> {
  try {
    await store.removeFolder(folder);
    return true;
  } catch {
    return false;
  }
}
