/** What is kept: training runs, checkpoints, sessions. Nothing here needs a model to be loaded. */
import type { PageRequest } from './contract/backend';
import { AbortedError, BadRequestError } from './contract/errors';
import { parseTinkerPath } from './contract/tinker-path';
import { checkNames } from './options';
import type {
  GetSamplerResponse,
  GetServerCapabilitiesResponse,
  GetSessionResponse,
  ListSessionsResponse,
  WeightsInfoResponse,
} from './results';
import {
  checkpoint,
  checkpointsList,
  trainingRun,
  trainingRuns,
  type Checkpoint,
  type CheckpointArchiveUrlResponse,
  type CheckpointsListResponse,
  type Page,
  type StorageUsage,
  type TrainingRun,
  type TrainingRunsResponse,
} from './runs';
import type { Session } from './session';

/** How long an archive's URL works, ms: as long as the service's. */
const ARCHIVE_MS = 15 * 60_000;

export interface ImportCheckpointOptions {
  /** of the checkpoint, as in `saveState` */
  readonly name: string;
  /** default: what the adapter's `adapter_config.json` names */
  readonly baseModel?: string;
}

/** Made by `ServiceClient.createRestClient`. All of it rejects with `NotFoundError` where there is no such thing. */
export class RestClient {
  readonly #session: Session;
  /** archives that can be downloaded, with what takes them away */
  readonly #archives = new Map<string, ReturnType<typeof setTimeout>>();
  #disposed = false;

  /** @internal */
  constructor(session: Session) {
    this.#session = session;
  }

  get #backend(): Session['backend'] {
    if (this.#disposed) throw new AbortedError('this RestClient is disposed');
    return this.#session.backend;
  }

  /** As `ServiceClient.getServerCapabilities`. */
  async getServerCapabilities(): Promise<GetServerCapabilitiesResponse> {
    return this.#backend.getServerCapabilities();
  }

  async getTrainingRun(trainingRunId: string): Promise<TrainingRun> {
    return trainingRun(await this.#backend.getTrainingRun(trainingRunId));
  }

  /** The run that a checkpoint is of. */
  async getTrainingRunByTinkerPath(tinkerPath: string): Promise<TrainingRun> {
    return this.getTrainingRun(parseTinkerPath(tinkerPath).trainingRunId);
  }

  /** Newest first. */
  async listTrainingRuns(page: Page = {}): Promise<TrainingRunsResponse> {
    return trainingRuns(await this.#backend.listTrainingRuns(pageRequest(page, 20)));
  }

  /** All checkpoints of one run, training and sampler ones, newest first; not paged. */
  async listCheckpoints(trainingRunId: string): Promise<CheckpointsListResponse> {
    return checkpointsList(await this.#backend.listCheckpoints(trainingRunId));
  }

  /** Checkpoints of all runs, newest first. */
  async listUserCheckpoints(page: Page = {}): Promise<CheckpointsListResponse> {
    return checkpointsList(await this.#backend.listUserCheckpoints(pageRequest(page, 100)));
  }

  /** @param checkpointId `weights/NAME` or `sampler_weights/NAME` */
  async deleteCheckpoint(trainingRunId: string, checkpointId: string): Promise<void> {
    return this.#backend.deleteCheckpoint(pathOf(trainingRunId, checkpointId));
  }

  async deleteCheckpointFromTinkerPath(tinkerPath: string): Promise<void> {
    return this.#backend.deleteCheckpoint(checked(tinkerPath));
  }

  /** Sets the flag; locally nobody else can see a checkpoint either way. @throws ConflictError if it is public already */
  async publishCheckpointFromTinkerPath(tinkerPath: string): Promise<void> {
    return this.#backend.setCheckpointPublic(checked(tinkerPath), true);
  }

  /** @throws ConflictError if it is not public */
  async unpublishCheckpointFromTinkerPath(tinkerPath: string): Promise<void> {
    return this.#backend.setCheckpointPublic(checked(tinkerPath), false);
  }

  /** @param ttlSeconds from now; null = it never expires */
  async setCheckpointTtlFromTinkerPath(tinkerPath: string, ttlSeconds: number | null): Promise<void> {
    return this.#backend.setCheckpointTtl(checked(tinkerPath), ttlSeconds);
  }

  /** @param checkpointId `weights/NAME` or `sampler_weights/NAME` */
  async getCheckpointArchiveUrl(
    trainingRunId: string,
    checkpointId: string,
  ): Promise<CheckpointArchiveUrlResponse> {
    return this.getCheckpointArchiveUrlFromTinkerPath(pathOf(trainingRunId, checkpointId));
  }

  /**
   * Where to download a checkpoint: a `.tar` with its files at the root, which Python's peft loads once
   * unpacked. The URL works on this page for 15 minutes, or until this client is disposed.
   */
  async getCheckpointArchiveUrlFromTinkerPath(tinkerPath: string): Promise<CheckpointArchiveUrlResponse> {
    const archive = await this.#backend.getCheckpointArchive(checked(tinkerPath));
    if (archive.kind === 'url') return { url: archive.url, expires: new Date(archive.expires) };
    if (this.#disposed) throw new AbortedError('this RestClient is disposed');
    const url = URL.createObjectURL(archive.blob);
    const timer = setTimeout(() => this.#revoke(url), ARCHIVE_MS);
    // in Node a timer would keep the process alive
    if (typeof timer === 'object') timer.unref();
    this.#archives.set(url, timer);
    return { url, expires: new Date(Date.now() + ARCHIVE_MS) };
  }

  #revoke(url: string): void {
    clearTimeout(this.#archives.get(url));
    this.#archives.delete(url);
    URL.revokeObjectURL(url);
  }

  /** What a checkpoint was trained on, and what of it. */
  async getWeightsInfoByTinkerPath(tinkerPath: string): Promise<WeightsInfoResponse> {
    return this.#backend.getWeightsInfo(checked(tinkerPath));
  }

  /** Files an adapter made elsewhere as a training checkpoint of a run of its own. Not in the SDK. */
  async importCheckpoint(
    source: Blob | Readonly<Record<string, Blob>>,
    options: ImportCheckpointOptions,
  ): Promise<Checkpoint> {
    checkNames('importCheckpoint', options, ['name', 'baseModel']);
    const { name, baseModel } = options;
    const backend = this.#backend;
    const sessionId = await this.#session.id();
    return checkpoint(
      await backend.importCheckpoint({ sessionId, source, name, baseModel: baseModel ?? null }),
    );
  }

  /** What checkpoints take, and what the browser grants. Not in the SDK. */
  async getStorageUsage(): Promise<StorageUsage> {
    return this.#backend.getStorageUsage();
  }

  /** Runs and living samplers of one `ServiceClient`. */
  async getSession(sessionId: string): Promise<GetSessionResponse> {
    return this.#backend.getSession(sessionId);
  }

  /** Newest first. */
  async listSessions(page: Page = {}): Promise<ListSessionsResponse> {
    return { sessions: await this.#backend.listSessions(pageRequest(page, 20)) };
  }

  /** A sampler that lives. */
  async getSampler(samplerId: string): Promise<GetSamplerResponse> {
    return this.#backend.getSampler(samplerId);
  }

  /** Takes back archive URLs; later calls reject. */
  dispose(): void {
    this.#disposed = true;
    for (const url of [...this.#archives.keys()]) this.#revoke(url);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** The path, if it has the form of one. @throws BadRequestError */
const checked = (tinkerPath: string): string => parseTinkerPath(tinkerPath, 'tinker_path').tinkerPath;

/** @throws BadRequestError where the two make no path */
function pathOf(trainingRunId: string, checkpointId: string): string {
  if (!/^(sampler_)?weights\//.test(checkpointId)) {
    throw new BadRequestError(
      `checkpoint_id: expected weights/NAME or sampler_weights/NAME, got ${JSON.stringify(checkpointId)}`,
    );
  }
  return parseTinkerPath(`tinker://${trainingRunId}/${checkpointId}`, 'training_run_id, checkpoint_id')
    .tinkerPath;
}

function pageRequest(page: Page, defaultLimit: number): PageRequest {
  checkNames('page', page, ['limit', 'offset']);
  const { limit = defaultLimit, offset = 0 } = page;
  if (!Number.isSafeInteger(limit) || limit < 1) {
    throw new BadRequestError(`limit: must be a whole number from 1, got ${String(limit)}`);
  }
  if (!Number.isSafeInteger(offset) || offset < 0) {
    throw new BadRequestError(`offset: must be a whole number from 0, got ${String(offset)}`);
  }
  return { limit, offset };
}
