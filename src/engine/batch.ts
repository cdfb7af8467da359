/** Packs ragged datums back to back, and splits what is too large for memory. */
import type { DatumPayload, TensorPayload } from '../api/contract/types';
import type { HostArray } from '../kernels/op';
import type { DecoderConfig } from '../models/config';

/** Datums that run together, with their rows in the packed batch. */
export interface PackedBatch {
  /** T */
  readonly tokens: number;
  /** K: cells a token, the most targets that a token of it has */
  readonly width: number;
  /** index of each datum in the request, and its first row */
  readonly datums: readonly { readonly index: number; readonly start: number; readonly length: number }[];
  /** loss inputs are (T·K), what a datum lacks of K being 0 */
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

/** Cells (tokens · K) of one batch: they take memory for each input of the loss. */
const CELL_LIMIT = 4 * 2 ** 20;

/** K of a tensor of shape (N) or (N, K). */
export const widthOf = ({ shape }: TensorPayload): number => shape[1] ?? 1;

/** Writes a dense or sparse (N, K) tensor into rows of `width` ≥ K cells, from row `row` on. */
function place(tensor: TensorPayload, into: HostArray, row: number, width: number): void {
  const { data, csr, shape } = tensor;
  const K = widthOf(tensor);
  if (!csr && K === width) return into.set(data, row * width);
  for (let r = 0; r < shape[0]!; r++) {
    const at = (row + r) * width;
    if (!csr) into.set(data.subarray(r * K, (r + 1) * K), at);
    else
      for (let i = csr.crowIndices[r]!; i < csr.crowIndices[r + 1]!; i++)
        into[at + csr.colIndices[i]!] = data[i]!;
  }
}

/** One loss input of all datums, (total · width). */
function concat(tensors: readonly TensorPayload[], total: number, width: number): HostArray {
  const cells = total * width;
  const whole = tensors[0]!.dtype === 'int64' ? new Uint32Array(cells) : new Float32Array(cells);
  let row = 0;
  for (const t of tensors) {
    place(t, whole, row, width);
    row += t.shape[0]!;
  }
  return whole;
}

/** Splits a request into batches of at most `limit` tokens (a longer datum gets one of its own), in order. */
export function packBatches(data: readonly DatumPayload[], limit: number): PackedBatch[] {
  const targetsOf = (i: number): number => widthOf(data[i]!.lossFnInputs['target_tokens']!);
  const groups: { members: number[]; tokens: number; width: number }[] = [];
  data.forEach(({ tokens }, index) => {
    const last = groups.at(-1);
    const total = (last?.tokens ?? 0) + tokens.length;
    const width = Math.max(last?.width ?? 1, targetsOf(index));
    if (last && total <= limit && total * width <= CELL_LIMIT) {
      last.members.push(index);
      Object.assign(last, { tokens: total, width });
    } else groups.push({ members: [index], tokens: tokens.length, width: targetsOf(index) });
  });
  return groups.map(({ members, tokens, width }) => {
    const { inputs } = packSequences(members.map((i) => data[i]!.tokens));
    let start = 0;
    const datums = members.map((index) => {
      const entry = { index, start, length: data[index]!.tokens.length };
      start += entry.length;
      return entry;
    });
    const all: Record<string, HostArray> = { ...inputs };
    for (const name of Object.keys(data[members[0]!]!.lossFnInputs)) {
      const key = name === 'target_tokens' ? 'targets' : name;
      all[key] = concat(
        members.map((i) => data[i]!.lossFnInputs[name]!),
        tokens,
        width,
      );
    }
    return { tokens, width, datums, inputs: all };
  });
}
