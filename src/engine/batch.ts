/** Packs ragged datums back to back, and splits what is too large for memory. */
import type { DatumPayload, TensorPayload } from '../api/contract/types';
import type { DecoderConfig } from '../models/config';
import type { HostArray } from './devices/webgpu/plan';

/** Datums that run together, with their rows in the packed batch. */
export interface PackedBatch {
  /** T */
  readonly tokens: number;
  /** index of each datum in the request, and its first row */
  readonly datums: readonly { readonly index: number; readonly start: number; readonly length: number }[];
  readonly inputs: Readonly<Record<string, HostArray>>;
}

/** Bytes that the saved activations and scratch of one step may take, roughly. */
const ACTIVATION_BUDGET = 512 * 2 ** 20;

/** Tokens that fit one micro-batch of a training step. */
export function microBatchTokens(config: DecoderConfig): number {
  const { layers, hiddenSize: d, intermediateSize: f, heads, kvHeads, headDim } = config;
  const perLayer = 4 * d + 2 * heads * headDim + 2 * kvHeads * headDim + 2 * f;
  const perToken = 4 * (layers * perLayer + 8 * d + 4 * f + Math.min(config.vocabSize, 4096));
  return Math.max(64, Math.min(8192, Math.floor(ACTIVATION_BUDGET / perToken)));
}

/** The inputs every program reads: tokens, positions, segments of sequences of these lengths. */
export function packSequences(sequences: readonly ArrayLike<number>[]): {
  readonly total: number;
  readonly inputs: Record<'tokens' | 'positions' | 'segments', Uint32Array<ArrayBuffer>>;
} {
  const total = sequences.reduce((n, s) => n + s.length, 0);
  const tokens = new Uint32Array(total);
  const positions = new Uint32Array(total);
  const segments = new Uint32Array(2 * total);
  let start = 0;
  for (const sequence of sequences) {
    const end = start + sequence.length;
    tokens.set(sequence, start);
    for (let t = start; t < end; t++) {
      positions[t] = t - start;
      segments[2 * t] = start;
      segments[2 * t + 1] = end;
    }
    start = end;
  }
  return { total, inputs: { tokens, positions, segments } };
}

/** Concatenates one loss input of all datums. */
function concat(tensors: readonly TensorPayload[], total: number): HostArray {
  const whole = tensors[0]!.dtype === 'int64' ? new Uint32Array(total) : new Float32Array(total);
  let at = 0;
  for (const t of tensors) {
    whole.set(t.data, at);
    at += t.data.length;
  }
  return whole;
}

/** Splits a request into batches of at most `limit` tokens (a longer datum gets one of its own), in order. */
export function packBatches(data: readonly DatumPayload[], limit: number): PackedBatch[] {
  const groups: number[][] = [];
  let room = 0;
  data.forEach((datum, index) => {
    const length = datum.tokens.length;
    if (groups.length === 0 || length > room) {
      groups.push([]);
      room = limit;
    }
    groups.at(-1)!.push(index);
    room -= length;
  });
  return groups.map((group) => {
    const members = group.map((i) => data[i]!);
    const { total, inputs } = packSequences(members.map((d) => d.tokens));
    let start = 0;
    const datums = group.map((index) => {
      const entry = { index, start, length: data[index]!.tokens.length };
      start += entry.length;
      return entry;
    });
    const all: Record<string, HostArray> = { ...inputs };
    for (const name of Object.keys(members[0]!.lossFnInputs)) {
      const key = name === 'target_tokens' ? 'targets' : name;
      all[key] = concat(
        members.map((d) => d.lossFnInputs[name]!),
        total,
      );
    }
    return { tokens: total, datums, inputs: all };
  });
}
