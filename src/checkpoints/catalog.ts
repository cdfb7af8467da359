/**
 * Everything that is kept: sessions, runs, and the checkpoints of runs, over
 * any `Store`. A checkpoint's files are written first and its record last, so
 * that one which exists is whole; what a crash leaves behind is named by no
 * record, and removed when a catalog is next opened.
 */
import type { ImportCheckpointRequest, PageRequest } from '../api/contract/backend';
import { ConflictError, NotFoundError, UnprocessableEntityError } from '../api/contract/errors';
import { checkCheckpointName, parseTinkerPath } from '../api/contract/tinker-path';
import type {
  CheckpointPayload,
  CheckpointsListPayload,
  StorageUsagePayload,
  TrainingRunPayload,
  TrainingRunsPayload,
} from '../api/contract/types';
import { archiveOf } from './archive';
import type { CheckpointRecord, RunRecord, SaveOptions, SavedAdapter, SessionRecord } from './catalog-types';
import { filesOf, readCheckpoint, writeCheckpoint } from './checkpoint-io';
import { readImport } from './import';
import { checkpointsOf, runsOf, sessionsOf, usageOf } from './listing';
import {
  asCheckpoint,
  asRun,
  asSession,
  checkpointPayload,
  expiry,
  isExpired,
  keyOf,
  pageOf,
  pathOf,
  runPayload,
} from './records';
import type { JsonRecord, Store } from './store';
import { sweep, type Sweep } from './sweep';

export interface CatalogOptions {
  /** milliseconds since 1970 */
  readonly now?: () => number;
}

const asJson = (record: object): JsonRecord => record as JsonRecord;

export class Catalog {
  readonly #store: Store;
  readonly #now: () => number;
  /** of the last checkpoint, ms: no two have the same */
  #lastTime = 0;
  /** What opening removed. It goes on behind the first calls, and rejects if the store fails meanwhile. */
  readonly swept: Promise<Sweep>;

  private constructor(store: Store, { now = Date.now }: CatalogOptions) {
    this.#store = store;
    this.#now = now;
    this.swept = sweep(store, now);
    // no caller waits for it: what is left now is removed at the next start
    this.swept.catch(() => undefined);
  }

  static async open(store: Store, options: CatalogOptions = {}): Promise<Catalog> {
    return new Catalog(store, options);
  }

  async putSession(record: SessionRecord): Promise<void> {
    await this.#store.update('sessions', record.sessionId, () => asJson(record));
  }

  /** @throws NotFoundError */
  async getSession(sessionId: string): Promise<SessionRecord> {
    const record = await this.#store.get('sessions', sessionId);
    if (!record) throw new NotFoundError(`session_id: no session '${sessionId}'`);
    return asSession(record);
  }

  /** Ids, newest first. */
  async listSessions(page: PageRequest): Promise<string[]> {
    const sessions = await sessionsOf(this.#store);
    return pageOf(sessions, page).items.map(({ sessionId }) => sessionId);
  }

  /** Ids of the runs of a session, oldest first. */
  async runsOfSession(sessionId: string): Promise<string[]> {
    const runs = (await runsOf(this.#store)).filter((run) => run.sessionId === sessionId);
    return runs.map(({ trainingRunId }) => trainingRunId).reverse();
  }

  async putRun(record: RunRecord): Promise<void> {
    await this.#store.update('runs', record.trainingRunId, () => asJson(record));
  }

  /** Of a run without checkpoints; one that is not there is no error. */
  async removeRun(trainingRunId: string): Promise<void> {
    await this.#store.remove('runs', trainingRunId);
  }

  /** @throws NotFoundError */
  async getRunRecord(trainingRunId: string): Promise<RunRecord> {
    const record = await this.#store.get('runs', trainingRunId);
    if (!record) throw new NotFoundError(`training_run_id: no training run '${trainingRunId}'`);
    return asRun(record);
  }

  /** @throws NotFoundError */
  async getRun(trainingRunId: string): Promise<TrainingRunPayload> {
    const run = await this.getRunRecord(trainingRunId);
    return runPayload(run, await checkpointsOf(this.#store, this.#now(), `${trainingRunId}/`));
  }

  /** Newest first; runs without checkpoints are among them. */
  async listRuns(page: PageRequest): Promise<TrainingRunsPayload> {
    const { items, cursor } = pageOf(await runsOf(this.#store), page);
    const byRun = new Map<string, CheckpointRecord[]>(items.map((run) => [run.trainingRunId, []]));
    for (const checkpoint of await checkpointsOf(this.#store, this.#now()))
      byRun.get(checkpoint.trainingRunId)?.push(checkpoint);
    return { trainingRuns: items.map((run) => runPayload(run, byRun.get(run.trainingRunId)!)), cursor };
  }

  /**
   * Files an adapter. When this resolves, it survives whatever happens; when it rejects, nothing changed.
   *
   * @throws BadRequestError for a name or a ttl that cannot be
   * @throws ConflictError if there is one of that name, and `overwrite` is false
   * @throws StorageFullError without room
   */
  async save(options: SaveOptions): Promise<CheckpointRecord> {
    const { trainingRunId, checkpointType, name, overwrite } = options;
    checkCheckpointName(name);
    expiry(options.ttlSeconds, this.#now());
    const key = keyOf(options);
    const refuseExisting = (current: JsonRecord | undefined): void => {
      if (overwrite || !current || isExpired(asCheckpoint(current), this.#now())) return;
      throw new ConflictError(
        `name: ${pathOf(asCheckpoint(current))} exists already; save under another name, or with overwrite`,
      );
    };
    // known before anything is written; decided when the record is
    refuseExisting(await this.#store.get('checkpoints', key));

    const written = await writeCheckpoint(this.#store, options);
    let record: CheckpointRecord | undefined;
    let replaced: CheckpointRecord | undefined;
    try {
      await this.#store.update('checkpoints', key, (current) => {
        refuseExisting(current);
        replaced = current && asCheckpoint(current);
        record = {
          format: 1,
          trainingRunId,
          checkpointType,
          name,
          time: this.#nextTime(),
          public: false,
          expiresAt: expiry(options.ttlSeconds, this.#now()),
          folder: written.folder,
          files: written.files,
          adapter: options.adapter,
          step: options.optimizer?.step ?? 0,
        };
        return asJson(record);
      });
    } catch (error) {
      await written.abandon(key);
      throw error;
    }
    if (replaced) await this.#removeFolder(replaced);
    await written.close();
    return record!;
  }

  /**
   * @throws BadRequestError if `path` is no checkpoint's path
   * @throws NotFoundError for one that does not exist, or has expired
   */
  async find(path: string): Promise<CheckpointRecord> {
    const found = await this.#store.get('checkpoints', keyOf(parseTinkerPath(path)));
    return this.#present(found, path);
  }

  /**
   * Reads a checkpoint and verifies all of it.
   *
   * @throws NotFoundError as `find`
   * @throws BadRequestError if it has no optimizer state and that is wanted
   * @throws UnprocessableEntityError naming the file that is damaged or missing
   */
  async load(path: string, want: { readonly optimizer: boolean }): Promise<SavedAdapter> {
    for (;;) {
      const record = await this.find(path);
      try {
        return await readCheckpoint(this.#store, record, want);
      } catch (error) {
        // another tab may have replaced or removed it meanwhile; then that counts
        if ((await this.find(path)).folder === record.folder) throw error;
      }
    }
  }

  /**
   * All checkpoints of one run, newest first.
   * @throws NotFoundError for an unknown run
   */
  async listCheckpoints(trainingRunId: string): Promise<CheckpointsListPayload> {
    const [checkpoints] = await Promise.all([
      checkpointsOf(this.#store, this.#now(), `${trainingRunId}/`),
      this.getRunRecord(trainingRunId),
    ]);
    return { checkpoints: checkpoints.map(checkpointPayload), cursor: null };
  }

  /** The checkpoints of all runs, newest first. */
  async listUserCheckpoints(page: PageRequest): Promise<CheckpointsListPayload> {
    const { items, cursor } = pageOf(await checkpointsOf(this.#store, this.#now()), page);
    return { checkpoints: items.map(checkpointPayload), cursor };
  }

  /** @throws NotFoundError as `find` */
  async delete(path: string): Promise<void> {
    const key = keyOf(parseTinkerPath(path));
    let removed: CheckpointRecord | undefined;
    try {
      await this.#store.update('checkpoints', key, (current) => {
        removed = this.#present(current, path);
        return undefined;
      });
    } catch (error) {
      // one whose record cannot be read can be removed; its files are then orphans
      if (!(error instanceof UnprocessableEntityError)) throw error;
      await this.#store.remove('checkpoints', key);
    }
    if (removed) await this.#removeFolder(removed);
  }

  /**
   * @throws NotFoundError as `find`
   * @throws ConflictError if it is so already
   */
  async setPublic(path: string, isPublic: boolean): Promise<void> {
    await this.#change(path, (record) => {
      if (record.public === isPublic) {
        throw new ConflictError(`path: ${path} is ${isPublic ? 'public' : 'private'} already`);
      }
      return { ...record, public: isPublic };
    });
  }

  /**
   * @param ttlSeconds from now; null = never expires
   * @throws NotFoundError as `find`
   * @throws BadRequestError if it is not positive
   */
  async setTtl(path: string, ttlSeconds: number | null): Promise<void> {
    const expiresAt = expiry(ttlSeconds, this.#now());
    await this.#change(path, (record) => ({ ...record, expiresAt }));
  }

  /**
   * The adapter as a `.tar` that reads its files from disk when it is read itself, which fails when
   * the checkpoint has been deleted or replaced by then.
   * @throws NotFoundError as `find`
   * @throws UnprocessableEntityError if a file is missing or of another size
   */
  async archive(path: string): Promise<Blob> {
    for (;;) {
      const record = await this.find(path);
      try {
        return await archiveOf(await filesOf(this.#store, record), new Date(record.time));
      } catch (error) {
        if ((await this.find(path)).folder === record.folder) throw error;
      }
    }
  }

  /**
   * Files an adapter made by peft, or by this library elsewhere, as a run of its own.
   * @throws BadRequestError for an adapter of a kind that this engine does not have
   * @throws UnprocessableEntityError for damaged or missing files
   */
  async import(request: ImportCheckpointRequest): Promise<CheckpointPayload> {
    checkCheckpointName(request.name);
    const { adapter, matrices } = await readImport(request.source, request.baseModel);
    const trainingRunId = `${crypto.randomUUID()}:train:0`;
    const { sessionId, name } = request;
    const created = new Date(this.#now()).toISOString();
    await this.putRun({
      trainingRunId,
      sessionId,
      adapter,
      userMetadata: {},
      created,
      lastRequestTime: created,
    });
    try {
      const record = await this.save({
        trainingRunId,
        checkpointType: 'training',
        name,
        adapter,
        matrices,
        optimizer: null,
        ttlSeconds: null,
        overwrite: false,
      });
      return checkpointPayload(record);
    } catch (error) {
      await this.removeRun(trainingRunId);
      throw error;
    }
  }

  usage(): Promise<StorageUsagePayload> {
    return usageOf(this.#store, this.#now());
  }

  /** Ends the store as well. */
  async close(): Promise<void> {
    await this.swept.catch(() => undefined);
    await this.#store.close();
  }

  #present(found: JsonRecord | undefined, path: string): CheckpointRecord {
    if (!found || isExpired(asCheckpoint(found), this.#now())) {
      throw new NotFoundError(`path: no checkpoint '${path}'`);
    }
    return asCheckpoint(found);
  }

  async #change(path: string, change: (record: CheckpointRecord) => CheckpointRecord): Promise<void> {
    await this.#store.update('checkpoints', keyOf(parseTinkerPath(path)), (current) =>
      asJson(change(this.#present(current, path))),
    );
  }

  #nextTime(): string {
    this.#lastTime = Math.max(this.#now(), this.#lastTime + 1);
    return new Date(this.#lastTime).toISOString();
  }

  /** Of a checkpoint that is gone: what cannot be removed now is an orphan, removed at the next start. */
  async #removeFolder({ folder }: CheckpointRecord): Promise<void> {
    await this.#store.removeFolder(folder).catch(() => undefined);
  }
}
