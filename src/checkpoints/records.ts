/** From what is filed to what is shown. */
import type { PageRequest } from '../api/contract/backend';
import { BadRequestError } from '../api/contract/errors';
import { checkpointIdOf, formatTinkerPath } from '../api/contract/tinker-path';
import type { CheckpointPayload, CursorPayload, TrainingRunPayload } from '../api/contract/types';
import type { CheckpointRecord, RunRecord, SessionRecord } from './catalog-types';
import type { JsonRecord } from './store';

// records are JSON of our own making
export const asCheckpoint = (record: JsonRecord): CheckpointRecord => record as unknown as CheckpointRecord;
export const asRun = (record: JsonRecord): RunRecord => record as unknown as RunRecord;
export const asSession = (record: JsonRecord): SessionRecord => record as unknown as SessionRecord;

/** `RUN/weights/NAME`: the key of a checkpoint's record. */
export const keyOf = (
  checkpoint: Pick<CheckpointRecord, 'trainingRunId' | 'checkpointType' | 'name'>,
): string => `${checkpoint.trainingRunId}/${checkpointIdOf(checkpoint.checkpointType, checkpoint.name)}`;

/** `tinker://RUN/weights/NAME`. */
export const pathOf = (record: CheckpointRecord): string =>
  formatTinkerPath(record.trainingRunId, record.checkpointType, record.name);

/** Bytes of all its files. */
export const sizeOf = (record: CheckpointRecord): number =>
  record.files.reduce((total, { bytes }) => total + bytes, 0);

export function checkpointPayload(record: CheckpointRecord): CheckpointPayload {
  const { checkpointType, name, time, expiresAt } = record;
  return {
    checkpointId: checkpointIdOf(checkpointType, name),
    checkpointType,
    time,
    tinkerPath: pathOf(record),
    sizeBytes: sizeOf(record),
    public: record.public,
    expiresAt,
  };
}

/** @param checkpoints of the run, newest first */
export function runPayload(run: RunRecord, checkpoints: readonly CheckpointRecord[]): TrainingRunPayload {
  const last = (type: CheckpointRecord['checkpointType']): CheckpointPayload | null => {
    const found = checkpoints.find(({ checkpointType }) => checkpointType === type);
    return found ? checkpointPayload(found) : null;
  };
  return {
    trainingRunId: run.trainingRunId,
    baseModel: run.adapter.baseModel,
    modelOwner: 'local',
    isLora: true,
    corrupted: false,
    loraRank: run.adapter.rank,
    lastRequestTime: run.lastRequestTime,
    lastCheckpoint: last('training'),
    lastSamplerCheckpoint: last('sampler'),
    userMetadata: run.userMetadata,
  };
}

/**
 * One page of a list.
 * @throws BadRequestError unless limit and offset are whole and not negative
 */
export function pageOf<T>(
  all: readonly T[],
  { limit, offset }: PageRequest,
): { items: T[]; cursor: CursorPayload } {
  for (const [field, value] of Object.entries({ limit, offset })) {
    if (!Number.isSafeInteger(value) || value < 0) {
      throw new BadRequestError(`${field}: must be a whole number, 0 or more, got ${value}`);
    }
  }
  return { items: all.slice(offset, offset + limit), cursor: { offset, limit, totalCount: all.length } };
}

/** Latest instant that a `Date` can hold, ms. */
const MAX_DATE = 8.64e15;

/**
 * When something that lasts so long expires.
 * @throws BadRequestError unless `ttlSeconds` is positive, or null
 */
export function expiry(ttlSeconds: number | null, now: number): string | null {
  if (ttlSeconds === null) return null;
  const at = now + ttlSeconds * 1000;
  if (typeof ttlSeconds !== 'number' || !(ttlSeconds > 0) || !(at <= MAX_DATE)) {
    throw new BadRequestError(`ttl_seconds: must be a positive number of seconds, got ${ttlSeconds}`);
  }
  return new Date(at).toISOString();
}

export const isExpired = ({ expiresAt }: Pick<CheckpointRecord, 'expiresAt'>, now: number): boolean =>
  expiresAt !== null && Date.parse(expiresAt) <= now;
