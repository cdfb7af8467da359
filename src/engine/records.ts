/** The part of the `Backend` that asks what is filed: runs, checkpoints, sessions. */
import type { Backend, ImportCheckpointRequest, PageRequest } from '../api/contract/backend';
import type {
  ArchivePayload,
  CheckpointPayload,
  CheckpointsListPayload,
  SessionPayload,
  StorageUsagePayload,
  TrainingRunPayload,
  TrainingRunsPayload,
  WeightsInfoPayload,
} from '../api/contract/types';
import type { Ledger } from './ledger';

export type RecordsBackend = Pick<
  Backend,
  | 'listTrainingRuns'
  | 'getTrainingRun'
  | 'listCheckpoints'
  | 'listUserCheckpoints'
  | 'getWeightsInfo'
  | 'deleteCheckpoint'
  | 'setCheckpointPublic'
  | 'setCheckpointTtl'
  | 'getCheckpointArchive'
  | 'importCheckpoint'
  | 'listSessions'
  | 'getSession'
  | 'getStorageUsage'
>;

export abstract class Records implements RecordsBackend {
  /** @param samplersOf ids of a session's samplers that live */
  protected constructor(
    protected readonly ledger: Ledger,
    private readonly samplersOf: (sessionId: string) => string[],
  ) {}

  async listTrainingRuns(page: PageRequest): Promise<TrainingRunsPayload> {
    return (await this.ledger.catalog()).listRuns(page);
  }

  async getTrainingRun(trainingRunId: string): Promise<TrainingRunPayload> {
    return (await this.ledger.catalog()).getRun(trainingRunId);
  }

  async listCheckpoints(trainingRunId: string): Promise<CheckpointsListPayload> {
    return (await this.ledger.catalog()).listCheckpoints(trainingRunId);
  }

  async listUserCheckpoints(page: PageRequest): Promise<CheckpointsListPayload> {
    return (await this.ledger.catalog()).listUserCheckpoints(page);
  }

  async getWeightsInfo(path: string): Promise<WeightsInfoPayload> {
    const { adapter } = await (await this.ledger.catalog()).find(path);
    const { baseModel, rank, trainAttn, trainMlp, trainUnembed } = adapter;
    return { baseModel, isLora: true, loraRank: rank, trainAttn, trainMlp, trainUnembed };
  }

  async deleteCheckpoint(path: string): Promise<void> {
    return (await this.ledger.catalog()).delete(path);
  }

  async setCheckpointPublic(path: string, isPublic: boolean): Promise<void> {
    return (await this.ledger.catalog()).setPublic(path, isPublic);
  }

  async setCheckpointTtl(path: string, ttlSeconds: number | null): Promise<void> {
    return (await this.ledger.catalog()).setTtl(path, ttlSeconds);
  }

  async getCheckpointArchive(path: string): Promise<ArchivePayload> {
    return { kind: 'blob', blob: await (await this.ledger.catalog()).archive(path) };
  }

  async importCheckpoint(request: ImportCheckpointRequest): Promise<CheckpointPayload> {
    this.ledger.checkSession(request.sessionId);
    return (await this.ledger.filed()).import(request);
  }

  async listSessions(page: PageRequest): Promise<readonly string[]> {
    return (await this.ledger.catalog()).listSessions(page);
  }

  async getSession(sessionId: string): Promise<SessionPayload> {
    const catalog = await this.ledger.catalog();
    await catalog.getSession(sessionId);
    const trainingRunIds = await catalog.runsOfSession(sessionId);
    return { sessionId, trainingRunIds, samplerIds: this.samplersOf(sessionId) };
  }

  async getStorageUsage(): Promise<StorageUsagePayload> {
    return (await this.ledger.catalog()).usage();
  }
}
