/** `tinker://RUN/weights/NAME` and `tinker://RUN/sampler_weights/NAME`, taken apart and put together. */
import { BadRequestError } from './errors';
import type { CheckpointType } from './types';

/** A checkpoint's path in its parts. */
export interface TinkerPathParts {
  readonly tinkerPath: string;
  readonly trainingRunId: string;
  readonly checkpointType: CheckpointType;
  /** `weights/NAME` or `sampler_weights/NAME` */
  readonly checkpointId: string;
  readonly name: string;
}

const SCHEME = 'tinker://';
const SEGMENTS = { training: 'weights', sampler: 'sampler_weights' } as const;

/** Longest name of a checkpoint, UTF-16 units. */
export const MAX_CHECKPOINT_NAME = 200;

// control characters, and halves of surrogate pairs, which no encoding can carry
const UNWRITABLE = /[\p{Cc}\p{Cs}]/u;

/**
 * @param field how the error names it
 * @throws BadRequestError unless `name` can be the last part of a path
 */
export function checkCheckpointName(name: unknown, field = 'name'): asserts name is string {
  const refuse = (rule: string): never => {
    throw new BadRequestError(`${field}: ${rule}, got ${JSON.stringify(name)}`);
  };
  if (typeof name !== 'string' || name === '') return refuse('must be a non-empty string');
  if (name.length > MAX_CHECKPOINT_NAME) {
    throw new BadRequestError(
      `${field}: must be at most ${MAX_CHECKPOINT_NAME} characters long, got ${name.length}`,
    );
  }
  if (/[/\\]/.test(name)) refuse("must not contain '/' or '\\'");
  if (name === '.' || name.includes('..')) refuse("must not be '.' or contain '..'");
  if (UNWRITABLE.test(name)) refuse('must not contain control characters or unpaired surrogates');
}

/** `weights/NAME` or `sampler_weights/NAME`. */
export const checkpointIdOf = (checkpointType: CheckpointType, name: string): string =>
  `${SEGMENTS[checkpointType]}/${name}`;

/** `tinker://RUN/weights/NAME` or `tinker://RUN/sampler_weights/NAME`. */
export const formatTinkerPath = (
  trainingRunId: string,
  checkpointType: CheckpointType,
  name: string,
): string => `${SCHEME}${trainingRunId}/${checkpointIdOf(checkpointType, name)}`;

/**
 * @param field how the error names it
 * @throws BadRequestError unless `path` has the form of a checkpoint's path
 */
export function parseTinkerPath(path: string, field = 'path'): TinkerPathParts {
  const refuse = (): never => {
    throw new BadRequestError(
      `${field}: expected tinker://RUN/weights/NAME or tinker://RUN/sampler_weights/NAME, got ${JSON.stringify(path)}`,
    );
  };
  if (typeof path !== 'string' || !path.startsWith(SCHEME)) return refuse();
  const [trainingRunId, kind, name, ...rest] = path.slice(SCHEME.length).split('/');
  if (!trainingRunId || name === undefined || rest.length > 0) return refuse();
  if (trainingRunId.includes('..') || UNWRITABLE.test(trainingRunId)) return refuse();
  if (kind !== SEGMENTS.training && kind !== SEGMENTS.sampler) return refuse();
  checkCheckpointName(name, `the name in ${field}`);
  return {
    tinkerPath: path,
    trainingRunId,
    checkpointType: kind === SEGMENTS.training ? 'training' : 'sampler',
    checkpointId: `${kind}/${name}`,
    name,
  };
}
