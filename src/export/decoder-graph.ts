/**
 * A Llama-family decoder as an ONNX graph for text generation, with the inputs and outputs that transformers.js and
 * Optimum know: `input_ids`, `attention_mask`, `position_ids`, `past_key_values.N.{key,value}` → `logits`,
 * `present.N.{key,value}`. Only standard operators, f32, ids in int64.
 *
 * B = batch, T = new tokens, P = tokens in the cache, S = P + T, D = width, H and K = query and key/value heads,
 * G = H / K, E = features of a head.
 */
import type { Graph, Value } from '../onnx/graph';
import type { DecoderConfig } from '../models/config';

/**
 * Name of the table of rotary angles among the weights: (positions, E), cosines then sines. Looked up rather than
 * computed in the graph, so that angles are the engine's to the last bit on every runtime; a position past the
 * model's context is an error there, as it is here.
 */
export const ROPE_TABLE = 'rope_table';

/** transformers.js sizes an empty cache by this name: it must be spelled so. */
const BATCH = 'batch_size';
const NEW = 'sequence_length';
const PAST = 'past_sequence_length';
const ALL = 'total_sequence_length';

/** Score of what a token must not see. Finite, so that a row that sees nothing (padding) stays finite as well. */
const UNSEEN = Math.fround(-3e38);

/** A weight by its Hugging Face name; matrices are (out, in). */
export type WeightValue = (name: string) => Value;

export interface DecoderGraphOptions {
  readonly config: DecoderConfig;
  /** the weight that makes logits of hidden features: the embedding, where they are tied */
  readonly unembedding: 'model.embed_tokens.weight' | 'lm_head.weight';
}

/** Builds the graph. @param declare makes the value of a weight, once for each name */
export function decoderGraph(
  graph: Graph,
  { config, unembedding }: DecoderGraphOptions,
  declare: WeightValue,
): void {
  const weight: WeightValue = (name) => graph.once(`weight ${name}`, () => declare(name));
  new Decoder(graph, config, weight).build(unembedding);
}

class Decoder {
  constructor(
    private readonly g: Graph,
    private readonly config: DecoderConfig,
    private readonly weight: WeightValue,
  ) {}

  build(unembedding: string): void {
    const { g, config, weight } = this;
    const { vocabSize, layers, kvHeads, headDim } = config;
    const ids = g.input('input_ids', 'i64', [BATCH, NEW]);
    const mask = g.input('attention_mask', 'i64', [BATCH, ALL]);
    const positions = g.input('position_ids', 'i64', [BATCH, NEW]);
    const past = Array.from({ length: layers }, (_, i) => ({
      key: g.input(`past_key_values.${i}.key`, 'f32', [BATCH, kvHeads, PAST, headDim]),
      value: g.input(`past_key_values.${i}.value`, 'f32', [BATCH, kvHeads, PAST, headDim]),
    }));
    const seen = this.#seen(mask, past[0]!.key);
    const angles = this.#angles(positions);

    let hidden = g.node('Gather', [weight('model.embed_tokens.weight'), ids], { axis: 0 });
    for (let i = 0; i < layers; i++) {
      const at = `model.layers.${i}`;
      const normed = this.#norm(hidden, `${at}.input_layernorm.weight`);
      const attended = this.#attention(normed, `${at}.self_attn`, past[i]!, seen, angles, i);
      hidden = g.node('Add', [hidden, attended]);
      const gated = this.#mlp(this.#norm(hidden, `${at}.post_attention_layernorm.weight`), `${at}.mlp`);
      hidden = g.node('Add', [hidden, gated]);
    }
    const logits = this.#linear(this.#norm(hidden, 'model.norm.weight'), unembedding, vocabSize);
    g.output('logits', logits, [BATCH, NEW, vocabSize]);
  }

  /** (B, 1, T, S) bool: a token sees itself and those before it, cached ones included, if the mask has them. */
  #seen(mask: Value, cache: Value): Value {
    const { g } = this;
    const past = this.#size(cache, 2);
    const all = this.#size(mask, 1);
    const range = (from: Value): Value => g.node('Range', [from, all, g.i64(1)]);
    const rows = g.node('Unsqueeze', [range(past), g.i64([1])]);
    const causal = g.node('LessOrEqual', [range(g.i64(0)), rows], {}, 'bool');
    const present = g.node('Cast', [mask], { to: BOOL }, 'bool');
    return g.node('And', [g.node('Unsqueeze', [present, g.i64([1, 2])]), causal]);
  }

  /** One dimension of a tensor, as a scalar. */
  #size(value: Value, axis: number): Value {
    const { g } = this;
    return g.node('Gather', [g.node('Shape', [value], {}, 'i64'), g.i64(axis)], { axis: 0 });
  }

  /** Cosines and sines of the new tokens' positions, each (B, 1, T, E/2). */
  #angles(positions: Value): readonly [Value, Value] {
    const { g } = this;
    const rows = g.node('Gather', [this.weight(ROPE_TABLE), positions], { axis: 0 });
    return this.#halves(g.node('Unsqueeze', [rows, g.i64([1])]));
  }

  #halves(x: Value): [Value, Value] {
    const half = this.config.headDim / 2;
    return this.g.split('Split', [x, this.g.i64([half, half])], 2, { axis: -1 }) as [Value, Value];
  }

  /** Rotary embedding, feature i of a head paired with i + E/2. x: (B, heads, T, E) */
  #rotate(x: Value, [cos, sin]: readonly [Value, Value]): Value {
    const { g } = this;
    const [a, b] = this.#halves(x);
    const mul = (x: Value, y: Value): Value => g.node('Mul', [x, y]);
    const first = g.node('Sub', [mul(a, cos), mul(b, sin)]);
    const second = g.node('Add', [mul(b, cos), mul(a, sin)]);
    return g.node('Concat', [first, second], { axis: -1 });
  }

  /** weight ⊙ x / √(mean(x²) + eps), spelled as runtimes look for it to fuse it. */
  #norm(x: Value, name: string): Value {
    const { g } = this;
    const mean = g.node('ReduceMean', [g.node('Pow', [x, g.f32(2)]), g.i64([-1])], { keepdims: 1 });
    const rms = g.node('Sqrt', [g.node('Add', [mean, g.f32(this.config.rmsNormEps)])]);
    return g.node('Mul', [g.node('Div', [x, rms]), this.weight(name)]);
  }

  /** x·Wᵀ with W as it is stored, so that a tied embedding serves both ways. x: (B, T, in) → (B, T, out) */
  #linear(x: Value, name: string, out: number): Value {
    const { g } = this;
    const weight = this.weight(name);
    const rows = g.once(`rows ${x.name}`, () => g.node('Flatten', [x], { axis: 2 }));
    const y = g.node('Gemm', [rows, weight], { transB: 1 });
    return this.#reshape(y, [out]);
  }

  /** Puts (B, T) before the given dimensions. */
  #reshape(x: Value, tail: readonly number[]): Value {
    const { g } = this;
    const shape = g.once(`shape ${tail.join()}`, () =>
      g.node('Concat', [this.#batchAndLength(), g.i64(tail)], { axis: 0 }),
    );
    return g.node('Reshape', [x, shape]);
  }

  /** [B, T] */
  #batchAndLength(): Value {
    const { g } = this;
    return g.once('batch and length', () => g.node('Shape', [g.inputs.get('input_ids')!], {}, 'i64'));
  }

  /** (B, K, G·T, S) → (B, H, T, S) */
  #perHead(scores: Value): Value {
    const { g } = this;
    const { heads, kvHeads } = this.config;
    if (heads === kvHeads) return scores;
    const shape = g.once('shape of heads', () => {
      const length = g.node('Gather', [this.#batchAndLength(), g.i64([1])], { axis: 0 });
      return g.node('Concat', [g.i64([0, heads]), length, g.i64([-1])], { axis: 0 });
    });
    return g.node('Reshape', [scores, shape]);
  }

  /** (B, H, T, S) → (B, K, G·T, S) */
  #perGroup(weights: Value): Value {
    const { g } = this;
    const { heads, kvHeads } = this.config;
    if (heads === kvHeads) return weights;
    const shape = g.once('shape of groups', () => {
      const mask = g.node('Shape', [g.inputs.get('attention_mask')!], {}, 'i64');
      const all = g.node('Gather', [mask, g.i64([1])], { axis: 0 });
      return g.node('Concat', [g.i64([0, kvHeads, -1]), all], { axis: 0 });
    });
    return g.node('Reshape', [weights, shape]);
  }

  #attention(
    x: Value,
    at: string,
    past: { readonly key: Value; readonly value: Value },
    seen: Value,
    angles: readonly [Value, Value],
    layer: number,
  ): Value {
    const { g } = this;
    const { hiddenSize, heads, kvHeads, headDim } = this.config;
    // (B, n, T, E)
    const project = (name: string, n: number): Value => {
      const y = this.#linear(x, `${at}.${name}_proj.weight`, n * headDim);
      return g.node('Transpose', [this.#reshape(y, [n, headDim])], { perm: [0, 2, 1, 3] });
    };
    const query = this.#rotate(project('q', heads), angles);
    const keys = g.node('Concat', [past.key, this.#rotate(project('k', kvHeads), angles)], { axis: 2 });
    const values = g.node('Concat', [past.value, project('v', kvHeads)], { axis: 2 });
    const shape = [BATCH, kvHeads, ALL, headDim];
    g.output(`present.${layer}.key`, keys, shape);
    g.output(`present.${layer}.value`, values, shape);

    // the G heads that share a key/value head lie one after the other: (B, K, G·T, E)
    const grouped = g.node('Reshape', [query, g.i64([0, kvHeads, -1, headDim])]);
    const scaled = g.node('Mul', [grouped, g.f32(1 / Math.sqrt(headDim))]);
    const scores = g.node('MatMul', [scaled, g.node('Transpose', [keys], { perm: [0, 1, 3, 2] })]);
    // (B, H, T, S)
    const masked = g.node('Where', [seen, this.#perHead(scores), g.f32(UNSEEN)], {}, 'f32');
    const weights = g.node('Softmax', [masked], { axis: -1 });
    const attended = g.node('MatMul', [this.#perGroup(weights), values]);
    const perHead = g.node('Reshape', [attended, g.i64([0, heads, -1, headDim])]);
    const joined = this.#reshape(g.node('Transpose', [perHead], { perm: [0, 2, 1, 3] }), [heads * headDim]);
    return this.#linear(joined, `${at}.o_proj.weight`, hiddenSize);
  }

  /** down(silu(gate(x)) ⊙ up(x)) */
  #mlp(x: Value, at: string): Value {
    const { g } = this;
    const { hiddenSize, intermediateSize } = this.config;
    const gate = this.#linear(x, `${at}.gate_proj.weight`, intermediateSize);
    const up = this.#linear(x, `${at}.up_proj.weight`, intermediateSize);
    const silu = g.node('Mul', [gate, g.node('Sigmoid', [gate])]);
    return this.#linear(g.node('Mul', [silu, up]), `${at}.down_proj.weight`, hiddenSize);
  }
}

/** ONNX's number of the type */
const BOOL = 9;
