/**
 * What the engine files: sessions, runs, checkpoints. Training never waits for
 * storage and never fails because of it: records are kept here and filed behind
 * it; only what saves, loads or lists waits, and fails if storage does.
 */
import type { SaveWeightsRequest } from '../api/contract/backend';
import { BadRequestError, NotFoundError, StorageError, StorageFullError } from '../api/contract/errors';
import { formatTinkerPath, parseTinkerPath } from '../api/contract/tinker-path';
import type { CheckpointType, StorageKind } from '../api/contract/types';
import type { Catalog } from '../checkpoints/catalog';
import type {
  AdapterDescription,
  RunRecord,
  SavedAdapter,
  SessionRecord,
} from '../checkpoints/catalog-types';
import type { SavedState } from './training-model';

/** Where checkpoints go. */
export interface Storage {
  readonly kind: StorageKind;
  /** Called when it is first needed, and again after a failure. */
  readonly open: () => Promise<Catalog>;
}

/** How often the time of a run's last request is filed while it trains, ms. */
const FILE_EVERY = 30_000;

const now = (): string => new Date().toISOString();

/** A session of this engine, with the numbers of its next model and sampler. */
interface Session {
  readonly record: SessionRecord;
  models: number;
  samplers: number;
}

export class Ledger {
  readonly #sessions = new Map<string, Session>();
  readonly #runs = new Map<string, RunRecord>();
  /** what is not filed yet, by id; and runs that are to be there no more */
  readonly #unfiled = {
    sessions: new Map<string, SessionRecord>(),
    runs: new Map<string, RunRecord>(),
    removed: new Set<string>(),
  };
  /** runs that have done nothing yet */
  readonly #unused = new Set<string>();
  #filedAt = 0;
  /** the filing before the next */
  #last: Promise<unknown> = Promise.resolve();
  #catalog: Promise<Catalog> | undefined;
  /** the last save under way to each path */
  readonly #saves = new Map<string, Promise<unknown>>();

  constructor(readonly storage: Storage) {}

  addSession(userMetadata: SessionRecord['userMetadata']): string {
    const record = { sessionId: crypto.randomUUID(), userMetadata, created: now() };
    this.#sessions.set(record.sessionId, { record, models: 0, samplers: 0 });
    this.#unfiled.sessions.set(record.sessionId, record);
    this.#fileBehind();
    return record.sessionId;
  }

  /** @throws NotFoundError unless the session is one of this engine's */
  checkSession(sessionId: string): void {
    this.#session(sessionId);
  }

  #session(sessionId: string): Session {
    const session = this.#sessions.get(sessionId);
    if (!session) throw new NotFoundError(`session_id: unknown session ${sessionId}`);
    return session;
  }

  /** The id of a session's next model or sampler. @throws NotFoundError */
  nextId(sessionId: string, what: 'train' | 'sample'): string {
    const session = this.#session(sessionId);
    const n = what === 'train' ? session.models++ : session.samplers++;
    return `${sessionId}:${what}:${n}`;
  }

  addRun(run: Omit<RunRecord, 'created' | 'lastRequestTime'>): void {
    const time = now();
    const record = { ...run, created: time, lastRequestTime: time };
    this.#runs.set(run.trainingRunId, record);
    this.#unused.add(run.trainingRunId);
    this.#unfiled.runs.set(run.trainingRunId, record);
    this.#fileBehind();
  }

  run(id: string): RunRecord {
    return this.#runs.get(id)!;
  }

  /** Notes that a run has done something. */
  touch(id: string): void {
    this.#unused.delete(id);
    const record = { ...this.run(id), lastRequestTime: now() };
    this.#runs.set(id, record);
    this.#unfiled.runs.set(id, record);
    if (Date.now() - this.#filedAt >= FILE_EVERY) this.#fileBehind();
  }

  /** A run whose model is gone; what is filed of it stays, unless it has done nothing. */
  endRun(id: string): void {
    this.#runs.delete(id);
    if (this.#unused.delete(id)) {
      this.#unfiled.runs.delete(id);
      this.#unfiled.removed.add(id);
    }
    this.#fileBehind();
  }

  /**
   * The catalog to read or remove from, with what is known here in it. When there is no room for
   * that, as it was: what makes room again must work.
   * @throws StorageError
   */
  catalog(): Promise<Catalog> {
    return this.filed().catch((error: unknown) => {
      if (error instanceof StorageFullError) return this.#open();
      throw error;
    });
  }

  /**
   * The catalog to write to, when all that is known here is in it.
   * @throws StorageError, StorageFullError
   */
  filed(): Promise<Catalog> {
    const filed = this.#last.then(() => this.#file());
    this.#last = filed.catch(() => undefined);
    return filed;
  }

  async #file(): Promise<Catalog> {
    this.#filedAt = Date.now();
    const catalog = await this.#open();
    const { sessions, runs, removed } = this.#unfiled;
    for (const record of [...sessions.values()]) {
      await catalog.putSession(record);
      sessions.delete(record.sessionId);
    }
    for (const record of [...runs.values()]) {
      await catalog.putRun(record);
      // it may have changed meanwhile
      if (runs.get(record.trainingRunId) === record) runs.delete(record.trainingRunId);
    }
    for (const id of [...removed]) {
      await catalog.removeRun(id);
      removed.delete(id);
    }
    return catalog;
  }

  #open(): Promise<Catalog> {
    this.#catalog ??= this.storage.open().catch((error: unknown) => {
      // the next call tries again
      this.#catalog = undefined;
      throw error;
    });
    return this.#catalog;
  }

  #fileBehind(): void {
    // a failure shows at the first call that needs storage
    this.filed().catch(() => undefined);
  }

  /**
   * Saves a state, after earlier saves to the same path.
   * @throws BadRequestError, ConflictError, StorageError, StorageFullError
   */
  save(
    request: SaveWeightsRequest,
    adapter: AdapterDescription,
    { matrices, optimizer }: SavedState,
  ): Promise<{ readonly path: string }> {
    const { modelId: trainingRunId, checkpointType, name, ttlSeconds, overwrite } = request;
    const path = formatTinkerPath(trainingRunId, checkpointType, name);
    const earlier = this.#saves.get(path);
    const save = async (): Promise<{ readonly path: string }> => {
      // in order: the first to be asked for is the one that is there, or is replaced
      await earlier?.catch(() => undefined);
      const catalog = await this.filed();
      await catalog.save({
        trainingRunId,
        checkpointType,
        name,
        adapter,
        matrices,
        optimizer,
        ttlSeconds,
        overwrite,
      });
      return { path };
    };
    const saved = save().finally(() => {
      if (this.#saves.get(path) === saved) this.#saves.delete(path);
    });
    this.#saves.set(path, saved);
    return saved;
  }

  /**
   * Reads a checkpoint, also one that is being saved.
   * @throws BadRequestError if it is not of this type; NotFoundError, UnprocessableEntityError, StorageError
   */
  async load(path: string, type: CheckpointType, optimizer: boolean): Promise<SavedAdapter> {
    const { checkpointType } = parseTinkerPath(path);
    if (checkpointType !== type) throw new BadRequestError(WRONG_TYPE[type]);
    await this.#saves.get(path)?.catch(() => undefined);
    const catalog = await this.catalog();
    return catalog.load(path, { optimizer });
  }

  /** Lets the saves under way end, and closes the store. */
  async close(): Promise<void> {
    await Promise.allSettled(this.#saves.values());
    if (!this.#catalog) return;
    await this.filed().catch(() => undefined);
    await this.#catalog?.then((catalog) => catalog.close());
  }
}

const WRONG_TYPE: Record<CheckpointType, string> = {
  training:
    'path: is of a sampler checkpoint, which has weights to sample from and no more; load one that was saved with save_state (tinker://RUN/weights/NAME)',
  sampler:
    'model_path: is of a training checkpoint; sample from one that was saved with save_weights_for_sampler (tinker://RUN/sampler_weights/NAME)',
};

/** For engines that are made without a place for checkpoints. */
export const NO_STORAGE: Storage = {
  kind: 'memory',
  open: () => Promise.reject(new StorageError('this engine was made without a store')),
};
