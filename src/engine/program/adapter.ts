/**
 * Where each LoRA matrix lives in the one flat vector that holds an adapter.
 *
 * Linears that read the same input are stacked (q, k, v; gate, up): their A
 * matrices lie one below the other, (G·r, K), and so do their B's, (N, r). The
 * gradients and both Adam moments are vectors of the same layout.
 */
import { LORA_ALPHA } from '../../api/contract/lora';
import type { DecoderConfig } from '../../models/config';

/** Offsets are multiples of 64 elements, the alignment of a buffer binding. */
const ALIGN = 64;
const aligned = (n: number): number => Math.ceil(n / ALIGN) * ALIGN;

export type LinearKind = 'attn' | 'mlp' | 'unembed';

/** One stacked linear of the model: weight (Σ rows, inputs). */
export interface Linear {
  /** e.g. `layers.0.qkv` */
  readonly key: string;
  readonly kind: LinearKind;
  /** stacked projections by canonical name, top to bottom */
  readonly members: readonly { readonly name: string; readonly rows: number }[];
  /** columns K */
  readonly inputs: number;
}

export const rowsOf = (linear: Linear): number => linear.members.reduce((n, m) => n + m.rows, 0);

/** Every linear of a Llama-family decoder, in order of use. */
export function linearsOf(config: DecoderConfig): Linear[] {
  const { hiddenSize: d, intermediateSize: f, heads, kvHeads, headDim, layers, vocabSize } = config;
  const all: Linear[] = [];
  for (let i = 0; i < layers; i++) {
    const at = `layers.${i}`;
    const attn = (p: string, rows: number) => ({ name: `${at}.self_attn.${p}_proj`, rows });
    const mlp = (p: string, rows: number) => ({ name: `${at}.mlp.${p}_proj`, rows });
    all.push(
      {
        key: `${at}.qkv`,
        kind: 'attn',
        members: [attn('q', heads * headDim), attn('k', kvHeads * headDim), attn('v', kvHeads * headDim)],
        inputs: d,
      },
      { key: `${at}.o`, kind: 'attn', members: [attn('o', d)], inputs: heads * headDim },
      { key: `${at}.gate_up`, kind: 'mlp', members: [mlp('gate', f), mlp('up', f)], inputs: d },
      { key: `${at}.down`, kind: 'mlp', members: [mlp('down', d)], inputs: f },
    );
  }
  all.push({
    key: 'lm_head',
    kind: 'unembed',
    members: [{ name: 'lm_head', rows: vocabSize }],
    inputs: d,
  });
  return all;
}

export interface LoraShape {
  readonly rank: number;
  readonly trainAttn: boolean;
  readonly trainMlp: boolean;
  readonly trainUnembed: boolean;
}

/** The A and B of one stacked linear. */
export interface AdapterSlot {
  readonly linear: Linear;
  /** end row of each member in the stack */
  readonly groups: readonly number[];
  /** element offset of A, (G·r, K) */
  readonly a: number;
  /** element offset of B, (N, r) */
  readonly b: number;
}

/** One LoRA matrix by canonical name. */
export interface AdapterParameter {
  /** e.g. `layers.0.self_attn.q_proj.lora_A` */
  readonly name: string;
  readonly role: 'A' | 'B';
  readonly shape: readonly [number, number];
  /** element offset in the flat vector */
  readonly offset: number;
}

export interface AdapterLayout {
  readonly rank: number;
  /** alpha / rank */
  readonly scale: number;
  /** by linear key; linears that are not trained have none */
  readonly slots: ReadonlyMap<string, AdapterSlot>;
  readonly parameters: readonly AdapterParameter[];
  /** elements of the flat vector, padding included */
  readonly length: number;
  /** equal keys: equal layouts */
  readonly key: string;
}

/** Lays out the adapter of `lora` on a model. */
export function adapterLayout(config: DecoderConfig, lora: LoraShape): AdapterLayout {
  const { rank } = lora;
  const trained: Record<LinearKind, boolean> = {
    attn: lora.trainAttn,
    mlp: lora.trainMlp,
    unembed: lora.trainUnembed,
  };
  const slots = new Map<string, AdapterSlot>();
  const parameters: AdapterParameter[] = [];
  let end = 0;
  for (const linear of linearsOf(config)) {
    if (!trained[linear.kind]) continue;
    const { members, inputs } = linear;
    const a = end;
    const b = aligned(a + members.length * rank * inputs);
    end = aligned(b + rowsOf(linear) * rank);
    const groups: number[] = [];
    let row = 0;
    members.forEach(({ name, rows }, i) => {
      parameters.push(
        { name: `${name}.lora_A`, role: 'A', shape: [rank, inputs], offset: a + i * rank * inputs },
        { name: `${name}.lora_B`, role: 'B', shape: [rows, rank], offset: b + row * rank },
      );
      row += rows;
      groups.push(row);
    });
    slots.set(linear.key, { linear, groups, a, b });
  }
  const key = [rank, lora.trainAttn, lora.trainMlp, lora.trainUnembed].join('/');
  return { rank, scale: LORA_ALPHA / rank, slots, parameters, length: end, key };
}
