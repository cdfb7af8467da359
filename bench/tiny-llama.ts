/**
 * The model of the training-step benchmark: a Llama of 4 layers with random weights, and a fixed batch.
 * Both subjects get these same numbers.
 */
import { seeded, uniformArray } from './harness';

/** A Hugging Face `config.json`. */
export const CONFIG = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  hidden_size: 128,
  intermediate_size: 512,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  num_key_value_heads: 4,
  head_dim: 32,
  vocab_size: 256,
  max_position_embeddings: 256,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  hidden_act: 'silu',
  tie_word_embeddings: false,
  bos_token_id: 0,
  eos_token_id: 0,
} as const;

export const BATCH = 8;
export const TOKENS = 128;
export const RANK = 16;
export const ALPHA = 32;
export const ADAM = { learningRate: 1e-3, beta1: 0.9, beta2: 0.95, eps: 1e-12, weightDecay: 0.01 } as const;

export interface HostWeight {
  readonly shape: readonly number[];
  readonly data: Float32Array<ArrayBuffer>;
}

/** The linears of a layer: name in the checkpoint, (outputs, inputs). */
export const LINEARS = {
  'self_attn.q_proj': [128, 128],
  'self_attn.k_proj': [128, 128],
  'self_attn.v_proj': [128, 128],
  'self_attn.o_proj': [128, 128],
  'mlp.gate_proj': [512, 128],
  'mlp.up_proj': [512, 128],
  'mlp.down_proj': [128, 512],
} as const satisfies Record<string, readonly [number, number]>;

/** Random base weights under their Hugging Face names, each linear (outputs, inputs). */
export function randomWeights(): Map<string, HostWeight> {
  const next = seeded(1);
  const weights = new Map<string, HostWeight>();
  const { hidden_size: width, vocab_size: vocab } = CONFIG;
  const matrix = (name: string, rows: number, columns: number, scale: number): void => {
    weights.set(name, { shape: [rows, columns], data: uniformArray(rows * columns, scale, next) });
  };
  const norm = (name: string): void => {
    const data = uniformArray(width, 0.1, next).map((x) => 1 + x);
    weights.set(name, { shape: [width], data });
  };
  matrix('model.embed_tokens.weight', vocab, width, 1);
  for (let layer = 0; layer < CONFIG.num_hidden_layers; layer++) {
    const prefix = `model.layers.${layer}`;
    norm(`${prefix}.input_layernorm.weight`);
    norm(`${prefix}.post_attention_layernorm.weight`);
    for (const [name, [rows, columns]] of Object.entries(LINEARS)) {
      matrix(`${prefix}.${name}.weight`, rows, columns, Math.sqrt(3 / columns));
    }
  }
  norm('model.norm.weight');
  matrix('lm_head.weight', vocab, width, Math.sqrt(3 / width));
  return weights;
}

/** (BATCH, TOKENS + 1) token ids: inputs are all but the last of a row, targets all but the first. */
export function randomTokens(): number[][] {
  const next = seeded(2);
  return Array.from({ length: BATCH }, () =>
    Array.from({ length: TOKENS + 1 }, () => Math.floor(next() * CONFIG.vocab_size)),
  );
}

export interface LoraPair {
  /** (RANK, inputs) */
  readonly a: HostWeight;
  /** (outputs, RANK) */
  readonly b: HostWeight;
}

/**
 * Pairs the engine's adapter matrices (`layers.0.self_attn.q_proj.lora_A` …) by the name of their linear in the
 * checkpoint (`model.layers.0.self_attn.q_proj`, …, `lm_head`).
 */
export function loraPairs(matrices: ReadonlyMap<string, Float32Array>): Map<string, LoraPair> {
  const pairs = new Map<string, LoraPair>();
  for (const [name, a] of matrices) {
    if (!name.endsWith('.lora_A')) continue;
    const linear = name.slice(0, -'.lora_A'.length);
    const b = matrices.get(`${linear}.lora_B`)!;
    pairs.set(linear === 'lm_head' ? linear : `model.${linear}`, {
      a: { shape: [RANK, a.length / RANK], data: Float32Array.from(a) },
      b: { shape: [b.length / RANK, RANK], data: Float32Array.from(b) },
    });
  }
  return pairs;
}
