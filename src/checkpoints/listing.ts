/** What there is, in order. */
import type { StorageUsagePayload } from '../api/contract/types';
import type { CheckpointRecord, RunRecord, SessionRecord } from './catalog-types';
import { asCheckpoint, asRun, asSession, isExpired, sizeOf } from './records';
import type { Store } from './store';

/** Newest first; ISO 8601 in UTC sorts as text. */
const newestFirst = <T>(items: T[], time: (item: T) => string): T[] =>
  items.sort((a, b) => (time(a) < time(b) ? 1 : time(a) > time(b) ? -1 : 0));

/** All sessions, newest first. */
export async function sessionsOf(store: Store): Promise<SessionRecord[]> {
  const { records } = await store.list('sessions');
  return newestFirst([...records.values()].map(asSession), ({ created }) => created);
}

/** All runs, newest first. */
export async function runsOf(store: Store): Promise<RunRecord[]> {
  const { records } = await store.list('runs');
  return newestFirst([...records.values()].map(asRun), ({ created }) => created);
}

/**
 * The checkpoints that have not expired, newest first.
 * @param prefix of their keys, e.g. `RUN/`
 */
export async function checkpointsOf(store: Store, now: number, prefix?: string): Promise<CheckpointRecord[]> {
  const { records } = await store.list('checkpoints', prefix);
  const all = [...records.values()].map(asCheckpoint).filter((record) => !isExpired(record, now));
  return newestFirst(all, ({ time }) => time);
}

export async function usageOf(store: Store, now: number): Promise<StorageUsagePayload> {
  const byRun = new Map<string, number>();
  for (const record of await checkpointsOf(store, now)) {
    byRun.set(record.trainingRunId, (byRun.get(record.trainingRunId) ?? 0) + sizeOf(record));
  }
  const runs = [...byRun].map(([trainingRunId, bytes]) => ({ trainingRunId, bytes }));
  runs.sort((a, b) => b.bytes - a.bytes);
  const bytes = runs.reduce((total, run) => total + run.bytes, 0);
  return { kind: store.kind, bytes, runs, ...(await store.space()) };
}
