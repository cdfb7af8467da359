/** Runs and checkpoints, as users see them: times are `Date`s. */
import type {
  CheckpointPayload,
  CheckpointsListPayload,
  CursorPayload,
  StorageUsagePayload,
  TrainingRunPayload,
  TrainingRunsPayload,
} from './contract/types';

/** A saved adapter. */
export interface Checkpoint extends Omit<CheckpointPayload, 'time' | 'expiresAt'> {
  /** when it was saved */
  readonly time: Date;
  /** null = never */
  readonly expiresAt: Date | null;
}

/** One adapter's life: from its creation for as long as the store keeps it. */
export interface TrainingRun extends Omit<
  TrainingRunPayload,
  'lastRequestTime' | 'lastCheckpoint' | 'lastSamplerCheckpoint'
> {
  readonly lastRequestTime: Date;
  /** the newest `weights/…` checkpoint */
  readonly lastCheckpoint: Checkpoint | null;
  /** the newest `sampler_weights/…` checkpoint */
  readonly lastSamplerCheckpoint: Checkpoint | null;
}

/** Where a page is in its list. */
export type Cursor = CursorPayload;

export interface TrainingRunsResponse {
  /** newest first */
  readonly trainingRuns: readonly TrainingRun[];
  readonly cursor: Cursor;
}

export interface CheckpointsListResponse {
  /** newest first */
  readonly checkpoints: readonly Checkpoint[];
  /** null where the list is not paged */
  readonly cursor: Cursor | null;
}

export interface CheckpointArchiveUrlResponse {
  /** of a `.tar` with the checkpoint's files at its root */
  readonly url: string;
  /** when the URL stops working */
  readonly expires: Date;
}

/** Bytes that checkpoints take, per run too, and what the browser grants. */
export type StorageUsage = StorageUsagePayload;

/** Which part of a list. */
export interface Page {
  /** most entries; whole, 1 or more */
  readonly limit?: number;
  /** entries to skip */
  readonly offset?: number;
}

/** @internal */
export function checkpoint(payload: CheckpointPayload): Checkpoint {
  const { time, expiresAt } = payload;
  return { ...payload, time: new Date(time), expiresAt: expiresAt === null ? null : new Date(expiresAt) };
}

/** @internal */
export function trainingRun(payload: TrainingRunPayload): TrainingRun {
  return {
    ...payload,
    lastRequestTime: new Date(payload.lastRequestTime),
    lastCheckpoint: payload.lastCheckpoint && checkpoint(payload.lastCheckpoint),
    lastSamplerCheckpoint: payload.lastSamplerCheckpoint && checkpoint(payload.lastSamplerCheckpoint),
  };
}

/** @internal */
export function trainingRuns({ trainingRuns: runs, cursor }: TrainingRunsPayload): TrainingRunsResponse {
  return { trainingRuns: runs.map(trainingRun), cursor };
}

/** @internal */
export function checkpointsList({ checkpoints, cursor }: CheckpointsListPayload): CheckpointsListResponse {
  return { checkpoints: checkpoints.map(checkpoint), cursor };
}
