/** A checkpoint's path, taken apart. */
import { parseTinkerPath } from './contract/tinker-path';
import type { CheckpointType } from './contract/types';

export class ParsedCheckpointTinkerPath {
  readonly tinkerPath: string;
  readonly trainingRunId: string;
  readonly checkpointType: CheckpointType;
  /** `weights/NAME` or `sampler_weights/NAME` */
  readonly checkpointId: string;

  private constructor({
    tinkerPath,
    trainingRunId,
    checkpointType,
    checkpointId,
  }: ParsedCheckpointTinkerPath) {
    this.tinkerPath = tinkerPath;
    this.trainingRunId = trainingRunId;
    this.checkpointType = checkpointType;
    this.checkpointId = checkpointId;
  }

  /** @throws BadRequestError unless it is `tinker://RUN/weights/NAME` or `tinker://RUN/sampler_weights/NAME` */
  static fromTinkerPath(tinkerPath: string): ParsedCheckpointTinkerPath {
    return new ParsedCheckpointTinkerPath(parseTinkerPath(tinkerPath, 'tinker_path'));
  }
}
