/** An exported model in onnxruntime-node: its logits for batches, with and without a cache. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { InferenceSession, Tensor } from 'onnxruntime-node';

/** Writes the files of an export. */
export async function writeFiles(folder: string, files: ReadonlyMap<string, Blob>): Promise<void> {
  for (const [path, blob] of files) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), new Uint8Array(await blob.arrayBuffer()));
  }
}

/** Rows of a batch: the same length, padding wherever `mask` is 0. */
export interface BatchInput {
  readonly ids: readonly (readonly number[])[];
  /** over the cache and the new tokens; default: all ones */
  readonly mask?: readonly (readonly number[])[];
  /** of the new tokens; default: how many unmasked tokens come before */
  readonly positions?: readonly (readonly number[])[];
}

export type Cache = Readonly<Record<string, Tensor>>;

export interface BatchOutput {
  /** per row and token: the logits (vocabulary) */
  readonly logits: Float32Array[][];
  /** what the next call takes */
  readonly cache: Cache;
}

const int64 = (rows: readonly (readonly number[])[]): Tensor =>
  new Tensor('int64', BigInt64Array.from(rows.flat(), BigInt), [rows.length, rows[0]!.length]);

export class OnnxModel {
  private constructor(readonly session: InferenceSession) {}

  static async load(folder: string): Promise<OnnxModel> {
    return new OnnxModel(await InferenceSession.create(join(folder, 'onnx/model.onnx')));
  }

  /** The graph's inputs and outputs: name → type and shape. */
  get ports(): { readonly inputs: Record<string, unknown>; readonly outputs: Record<string, unknown> } {
    const shapes = (all: readonly InferenceSession.ValueMetadata[]): Record<string, unknown> =>
      Object.fromEntries(all.map((m) => [m.name, m.isTensor ? [m.type, ...m.shape] : null]));
    return { inputs: shapes(this.session.inputMetadata), outputs: shapes(this.session.outputMetadata) };
  }

  /** An empty cache for so many rows. */
  empty(batch: number): Cache {
    const caches = this.session.inputMetadata.filter(({ name }) => name.startsWith('past_key_values'));
    return Object.fromEntries(
      caches.map((m) => {
        if (!m.isTensor) throw new Error(`${m.name} is no tensor`);
        const [, heads, , features] = m.shape as [string, number, string, number];
        return [m.name, new Tensor('float32', new Float32Array(0), [batch, heads, 0, features])];
      }),
    );
  }

  async run({ ids, mask, positions }: BatchInput, cache = this.empty(ids.length)): Promise<BatchOutput> {
    const past = Object.values(cache)[0]!.dims[2]!;
    const seen = mask ?? ids.map((row) => Array.from({ length: past + row.length }, () => 1));
    const counted = seen.map((row) => {
      let before = 0;
      return row.map((m) => (m ? before++ : 1)).slice(past);
    });
    const outputs = await this.session.run({
      input_ids: int64(ids),
      attention_mask: int64(seen),
      position_ids: int64(positions ?? counted),
      ...cache,
    });
    const { logits, ...present } = outputs as Record<string, Tensor> & { logits: Tensor };
    const [batch, length, vocab] = logits.dims as [number, number, number];
    const data = logits.data as Float32Array;
    return {
      logits: Array.from({ length: batch }, (_, b) =>
        Array.from({ length }, (_, t) => data.slice((b * length + t) * vocab, (b * length + t + 1) * vocab)),
      ),
      cache: Object.fromEntries(
        Object.entries(present).map(([name, tensor]) => [name.replace('present', 'past_key_values'), tensor]),
      ),
    };
  }

  async dispose(): Promise<void> {
    await this.session.release();
  }
}

/** log p of one token under logits. */
export function logprob(logits: Float32Array, token: number): number {
  const max = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const sum = logits.reduce((n, x) => n + Math.exp(x - max), 0);
  return logits[token]! - max - Math.log(sum);
}

/** The likeliest token, the first of equals. */
export const argmax = (logits: Float32Array): number =>
  logits.reduce((best, x, i) => (x > logits[best]! ? i : best), 0);
