/**
 * The description of a decoder, from its Hugging Face `config.json`.
 *
 * What this engine does not compute (biases, other activations, other RoPE
 * scalings …) is refused by name: a model that loads is a model that is right.
 */
import { BadRequestError } from '../api/contract/errors';

/** How rotary frequencies are stretched for long contexts. */
export type RopeScaling =
  | { readonly type: 'none' }
  /** every frequency divided by `factor` */
  | { readonly type: 'linear'; readonly factor: number }
  /** Llama 3: low frequencies divided by `factor`, high ones kept, a smooth ramp between */
  | {
      readonly type: 'llama3';
      readonly factor: number;
      readonly lowFreqFactor: number;
      readonly highFreqFactor: number;
      /** tokens of the context before stretching */
      readonly originalMaxPositionEmbeddings: number;
    };

/** A decoder-only transformer of the Llama family. */
export interface DecoderConfig {
  readonly modelType: 'llama';
  readonly vocabSize: number;
  /** width of the residual stream */
  readonly hiddenSize: number;
  /** width of the MLP's inner layer */
  readonly intermediateSize: number;
  readonly layers: number;
  /** query heads */
  readonly heads: number;
  /** key and value heads; divides `heads` */
  readonly kvHeads: number;
  /** even; need not be hiddenSize / heads */
  readonly headDim: number;
  readonly rmsNormEps: number;
  readonly rope: { readonly theta: number; readonly scaling: RopeScaling };
  /** whether the unembedding is the embedding matrix */
  readonly tieWordEmbeddings: boolean;
  /** longest sequence, tokens */
  readonly maxPositionEmbeddings: number;
  /** tokens that end a generated sequence; may be empty */
  readonly eosTokenIds: readonly number[];
}

/** Number of weights of the base model; a tied unembedding counts once. */
export function parameterCount(c: DecoderConfig): number {
  const q = c.heads * c.headDim;
  const kv = c.kvHeads * c.headDim;
  const attention = c.hiddenSize * (2 * q + 2 * kv);
  const mlp = 3 * c.hiddenSize * c.intermediateSize;
  const norms = 2 * c.hiddenSize;
  const embeddings = (c.tieWordEmbeddings ? 1 : 2) * c.vocabSize * c.hiddenSize;
  return embeddings + c.layers * (attention + mlp + norms) + c.hiddenSize;
}

type Json = Readonly<Record<string, unknown>>;

const isRecord = (v: unknown): v is Json => typeof v === 'object' && v !== null && !Array.isArray(v);

/** Reads checked fields of one JSON object; errors name the field and the file. */
class Fields {
  constructor(
    private readonly json: Json,
    private readonly where: string,
    private readonly prefix = '',
  ) {}

  fail(field: string, reason: string): never {
    throw new BadRequestError(`${this.where}: ${this.prefix}${field} ${reason}`);
  }

  /** null counts as absent, as transformers writes unset fields so */
  has(field: string): boolean {
    return this.json[field] !== undefined && this.json[field] !== null;
  }

  raw(field: string): unknown {
    return this.json[field];
  }

  int(field: string, fallback?: number): number {
    return this.number(field, fallback, (n) => Number.isSafeInteger(n) && n > 0, 'a whole number > 0');
  }

  positive(field: string, fallback?: number): number {
    return this.number(field, fallback, (n) => Number.isFinite(n) && n > 0, 'a finite number > 0');
  }

  bool(field: string, fallback: boolean): boolean {
    if (!this.has(field)) return fallback;
    const value = this.raw(field);
    return typeof value === 'boolean' ? value : this.fail(field, `= ${JSON.stringify(value)}, not a boolean`);
  }

  object(field: string): Fields {
    const value = this.raw(field);
    if (!isRecord(value)) return this.fail(field, 'is not an object');
    return new Fields(value, this.where, `${this.prefix}${field}.`);
  }

  private number(
    field: string,
    fallback: number | undefined,
    ok: (n: number) => boolean,
    expected: string,
  ): number {
    if (!this.has(field)) return fallback ?? this.fail(field, 'is missing');
    const value = this.raw(field);
    return typeof value === 'number' && ok(value)
      ? value
      : this.fail(field, `= ${JSON.stringify(value)}, not ${expected}`);
  }
}

/**
 * Reads a parsed `config.json` of the Llama family. Absent fields take the
 * defaults of transformers' LlamaConfig only where those are universal; sizes are never guessed.
 *
 * @param where how errors name the file
 * @throws BadRequestError naming the missing, odd or unsupported field
 */
export function parseConfig(json: unknown, where = 'config.json'): DecoderConfig {
  if (!isRecord(json)) throw new BadRequestError(`${where}: is not a JSON object`);
  const f = new Fields(json, where);
  if (f.raw('model_type') !== 'llama') {
    f.fail('model_type', `= ${JSON.stringify(f.raw('model_type'))}; only 'llama' is supported`);
  }
  for (const field of ['attention_bias', 'mlp_bias']) {
    if (f.bool(field, false)) f.fail(field, 'is true; biases are not supported');
  }
  const act = f.has('hidden_act') ? f.raw('hidden_act') : 'silu';
  if (act !== 'silu') f.fail('hidden_act', `= ${JSON.stringify(act)}; only 'silu' is supported`);

  const hiddenSize = f.int('hidden_size');
  const heads = f.int('num_attention_heads');
  const kvHeads = f.int('num_key_value_heads', heads);
  if (heads % kvHeads !== 0) {
    f.fail('num_key_value_heads', `= ${kvHeads} does not divide num_attention_heads = ${heads}`);
  }
  if (!f.has('head_dim') && hiddenSize % heads !== 0) {
    f.fail('hidden_size', `= ${hiddenSize} is not a multiple of num_attention_heads = ${heads}`);
  }
  const headDim = f.int('head_dim', hiddenSize / heads);
  if (headDim % 2 !== 0) f.fail('head_dim', `= ${headDim} is odd; rotary embedding needs pairs`);

  const vocabSize = f.int('vocab_size');
  return {
    modelType: 'llama',
    vocabSize,
    hiddenSize,
    intermediateSize: f.int('intermediate_size'),
    layers: f.int('num_hidden_layers'),
    heads,
    kvHeads,
    headDim,
    rmsNormEps: f.positive('rms_norm_eps'),
    rope: parseRope(f),
    tieWordEmbeddings: f.bool('tie_word_embeddings', false),
    maxPositionEmbeddings: f.int('max_position_embeddings'),
    eosTokenIds: parseEos(f, vocabSize),
  };
}

/** transformers 4 spells `rope_theta` and `rope_scaling`; transformers 5 puts both into `rope_parameters`. */
function parseRope(f: Fields): DecoderConfig['rope'] {
  const nested = f.has('rope_parameters');
  const field = nested ? 'rope_parameters' : 'rope_scaling';
  const scaling = f.has(field) ? f.object(field) : undefined;
  // 10,000 is RoPE's published base and what files without the field were trained with
  const theta = nested && scaling?.has('rope_theta') ? scaling : f;
  return { theta: theta.positive('rope_theta', 10_000), scaling: parseScaling(scaling) };
}

function parseScaling(s: Fields | undefined): RopeScaling {
  if (!s) return { type: 'none' };
  if (s.positive('partial_rotary_factor', 1) !== 1) {
    s.fail('partial_rotary_factor', 'other than 1 is not supported');
  }
  // `type` is the older spelling
  const field = s.has('rope_type') || !s.has('type') ? 'rope_type' : 'type';
  const type = s.has(field) ? s.raw(field) : s.fail(field, 'is missing');
  switch (type) {
    case 'default':
      return { type: 'none' };
    case 'linear':
      return { type: 'linear', factor: s.positive('factor') };
    case 'llama3': {
      const lowFreqFactor = s.positive('low_freq_factor');
      const highFreqFactor = s.positive('high_freq_factor');
      if (!(highFreqFactor > lowFreqFactor)) {
        s.fail('high_freq_factor', `= ${highFreqFactor} is not above low_freq_factor = ${lowFreqFactor}`);
      }
      return {
        type: 'llama3',
        factor: s.positive('factor'),
        lowFreqFactor,
        highFreqFactor,
        originalMaxPositionEmbeddings: s.int('original_max_position_embeddings'),
      };
    }
    default:
      return s.fail(field, `= ${JSON.stringify(type)}; 'default', 'linear' and 'llama3' are supported`);
  }
}

function parseEos(f: Fields, vocabSize: number): number[] {
  if (!f.has('eos_token_id')) return [];
  const value = f.raw('eos_token_id');
  const ids: unknown[] = Array.isArray(value) ? value : [value];
  for (const id of ids) {
    if (!Number.isSafeInteger(id) || (id as number) < 0 || (id as number) >= vocabSize) {
      f.fail(
        'eos_token_id',
        `= ${JSON.stringify(value)} is not of token ids below vocab_size = ${vocabSize}`,
      );
    }
  }
  return ids as number[];
}

/**
 * The tensors a checkpoint of this configuration holds: Hugging Face name → shape,
 * matrices as (out, in).
 */
export function expectedTensors(c: DecoderConfig): Map<string, readonly number[]> {
  const q = c.heads * c.headDim;
  const kv = c.kvHeads * c.headDim;
  const shapes = new Map<string, readonly number[]>();
  shapes.set('model.embed_tokens.weight', [c.vocabSize, c.hiddenSize]);
  for (let i = 0; i < c.layers; i++) {
    const layer = `model.layers.${i}`;
    shapes.set(`${layer}.input_layernorm.weight`, [c.hiddenSize]);
    shapes.set(`${layer}.self_attn.q_proj.weight`, [q, c.hiddenSize]);
    shapes.set(`${layer}.self_attn.k_proj.weight`, [kv, c.hiddenSize]);
    shapes.set(`${layer}.self_attn.v_proj.weight`, [kv, c.hiddenSize]);
    shapes.set(`${layer}.self_attn.o_proj.weight`, [c.hiddenSize, q]);
    shapes.set(`${layer}.post_attention_layernorm.weight`, [c.hiddenSize]);
    shapes.set(`${layer}.mlp.gate_proj.weight`, [c.intermediateSize, c.hiddenSize]);
    shapes.set(`${layer}.mlp.up_proj.weight`, [c.intermediateSize, c.hiddenSize]);
    shapes.set(`${layer}.mlp.down_proj.weight`, [c.hiddenSize, c.intermediateSize]);
  }
  shapes.set('model.norm.weight', [c.hiddenSize]);
  if (!c.tieWordEmbeddings) shapes.set('lm_head.weight', [c.vocabSize, c.hiddenSize]);
  return shapes;
}
