/** What the catalog files, and what it gives back. */
import type { CheckpointType } from '../api/contract/types';

/** A matrix, row-major. */
export interface AdapterMatrix {
  readonly shape: readonly [number, number];
  readonly data: Float32Array<ArrayBuffer>;
}

/** By canonical name, e.g. `layers.0.self_attn.q_proj.lora_A` (r, in), `….lora_B` (out, r), `lm_head.lora_A`. */
export type AdapterMatrices = ReadonlyMap<string, AdapterMatrix>;

/** What an adapter is on; enough to make a model that can take it. */
export interface AdapterDescription {
  readonly baseModel: string;
  readonly rank: number;
  /** the update is scaled by alpha / rank */
  readonly alpha: number;
  readonly trainAttn: boolean;
  readonly trainMlp: boolean;
  readonly trainUnembed: boolean;
}

/** AdamW's state between two steps. */
export interface OptimizerState {
  /** optimizer steps applied */
  readonly step: number;
  /** first and second moments, by the names of the adapter's matrices */
  readonly m: AdapterMatrices;
  readonly v: AdapterMatrices;
}

/** One training run, as filed. */
export interface RunRecord {
  readonly trainingRunId: string;
  readonly sessionId: string;
  readonly adapter: AdapterDescription;
  readonly userMetadata: Readonly<Record<string, string>>;
  /** ISO 8601 */
  readonly created: string;
  readonly lastRequestTime: string;
}

export interface SessionRecord {
  readonly sessionId: string;
  readonly userMetadata: Readonly<Record<string, string>>;
  /** ISO 8601 */
  readonly created: string;
}

/** One file of a checkpoint, as it must be found again. */
export interface FileRecord {
  readonly name: string;
  readonly bytes: number;
  /** hex */
  readonly sha256: string;
}

/** The manifest: a checkpoint exists when this does. */
export interface CheckpointRecord {
  readonly format: 1;
  readonly trainingRunId: string;
  readonly checkpointType: CheckpointType;
  readonly name: string;
  /** ISO 8601 */
  readonly time: string;
  readonly public: boolean;
  /** ISO 8601; null = never */
  readonly expiresAt: string | null;
  readonly folder: string;
  readonly files: readonly FileRecord[];
  readonly adapter: AdapterDescription;
  /** optimizer steps applied */
  readonly step: number;
}

export interface SaveOptions {
  readonly trainingRunId: string;
  readonly checkpointType: CheckpointType;
  readonly name: string;
  readonly adapter: AdapterDescription;
  readonly matrices: AdapterMatrices;
  /** of training checkpoints */
  readonly optimizer: OptimizerState | null;
  readonly ttlSeconds: number | null;
  readonly overwrite: boolean;
}

/** A checkpoint read back and verified. */
export interface SavedAdapter {
  readonly record: CheckpointRecord;
  readonly matrices: AdapterMatrices;
  /** null unless asked for */
  readonly optimizer: OptimizerState | null;
}
