/** Small adapters to save. */
import type {
  AdapterMatrices,
  AdapterMatrix,
  SaveOptions,
  SavedAdapter,
} from '../../../src/checkpoints/catalog-types';
import { equal, ok, sameBits } from './check';

export const RUN = '6f1c0f0e-7d0a-4a59-9f6a-0f6b54f0c001:train:0';

/** Numbers that depend on their seed in every bit, and some that formats like to lose. */
function numbers(count: number, seed: number): Float32Array<ArrayBuffer> {
  const bits = new Uint32Array(count);
  let state = seed * 2654435761 + 1;
  for (let i = 0; i < count; i++) {
    state = (Math.imul(state ^ (state >>> 15), 2246822519) + 0x9e3779b9) | 0;
    bits[i] = state >>> 0;
  }
  // -0, a denormal, a NaN with a payload, infinity
  bits.set([0x80000000, 1, 0x7fc01234, 0x7f800000].slice(0, count));
  return new Float32Array(bits.buffer);
}

/** Matrices of a model of width 6: two attention projections of two layers, and the unembedding. */
export function sampleMatrices(seed: number, rank = 2): AdapterMatrices {
  const shapes: [string, number, number][] = [
    ['layers.0.self_attn.q_proj', 6, 6],
    ['layers.1.self_attn.v_proj', 6, 4],
    ['lm_head', 6, 11],
  ];
  const matrices = new Map<string, AdapterMatrix>();
  shapes.forEach(([name, inputs, rows], i) => {
    matrices.set(`${name}.lora_A`, { shape: [rank, inputs], data: numbers(rank * inputs, seed + i) });
    matrices.set(`${name}.lora_B`, { shape: [rows, rank], data: numbers(rows * rank, seed - i - 1) });
  });
  return matrices;
}

/** A training checkpoint whose every number follows from `seed`. */
export function sample(seed: number, options: Partial<SaveOptions> = {}): SaveOptions {
  const type = options.checkpointType ?? 'training';
  return {
    trainingRunId: RUN,
    checkpointType: type,
    name: `n${seed}`,
    adapter: {
      baseModel: 'webtinker/pocket',
      rank: 2,
      alpha: 32,
      trainAttn: true,
      trainMlp: false,
      trainUnembed: true,
    },
    matrices: sampleMatrices(seed),
    optimizer:
      type === 'training'
        ? { step: seed, m: sampleMatrices(seed + 1000), v: sampleMatrices(seed + 2000) }
        : null,
    ttlSeconds: null,
    overwrite: false,
    ...options,
  };
}

export const pathOf = ({ trainingRunId, checkpointType, name }: SaveOptions): string =>
  `tinker://${trainingRunId}/${checkpointType === 'training' ? 'weights' : 'sampler_weights'}/${name}`;

function sameMatrices(actual: AdapterMatrices, expected: AdapterMatrices, what: string): void {
  equal([...actual.keys()].sort(), [...expected.keys()].sort(), `${what}: names`);
  for (const [name, { shape, data }] of expected) {
    equal(actual.get(name)!.shape, shape, `${what}: shape of ${name}`);
    sameBits(actual.get(name)!.data, data, `${what}: ${name}`);
  }
}

/** Checks that a checkpoint that was loaded is, bit for bit, the one that was saved. */
export function sameAdapter(loaded: SavedAdapter, saved: SaveOptions): void {
  const { record } = loaded;
  equal(record.adapter, saved.adapter, 'description');
  equal(record.step, saved.optimizer?.step ?? 0, 'step');
  sameMatrices(loaded.matrices, saved.matrices, 'adapter');
  if (!loaded.optimizer) return;
  ok(saved.optimizer, 'an optimizer state was saved');
  equal(loaded.optimizer.step, saved.optimizer.step, 'step of the optimizer');
  sameMatrices(loaded.optimizer.m, saved.optimizer.m, 'm');
  sameMatrices(loaded.optimizer.v, saved.optimizer.v, 'v');
}
