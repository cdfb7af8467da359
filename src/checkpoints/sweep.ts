/** What is removed when a catalog is opened: what a crash has left, what has expired, and what never came to anything. */
import type { CheckpointRecord } from './catalog-types';
import { asCheckpoint, asRun, asSession, isExpired } from './records';
import type { JsonRecord, Store } from './store';

/** How long a run that did nothing, or a session without runs, stays: every page that is opened makes one. */
const IDLE_MS = 7 * 24 * 3600 * 1000;

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
  if (damaged.length === 0) await sweepIdle(store, records, now());
  return { orphans, expired };
}

/** Removes the runs that asked for nothing and have no checkpoint, and the sessions without runs, when they are old. */
async function sweepIdle(
  store: Store,
  checkpoints: ReadonlyMap<string, JsonRecord>,
  now: number,
): Promise<void> {
  const isOld = ({ created }: { readonly created: string }): boolean => Date.parse(created) + IDLE_MS < now;
  const isIdle = (record: JsonRecord): boolean => {
    const run = asRun(record);
    return run.lastRequestTime === run.created && isOld(run);
  };
  const saved = new Set([...checkpoints.values()].map((record) => asCheckpoint(record).trainingRunId));
  const inUse = new Set<string>();
  for (const [key, record] of (await store.list('runs')).records) {
    if (saved.has(key) || !isIdle(record)) inUse.add(asRun(record).sessionId);
    // a run that another tab still has is filed again with its first request
    else await store.update('runs', key, (current) => (current && isIdle(current) ? undefined : current));
  }
  for (const [key, record] of (await store.list('sessions')).records) {
    if (!inUse.has(key) && isOld(asSession(record))) await store.remove('sessions', key);
  }
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
