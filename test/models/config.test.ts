import { describe, expect, it } from 'vitest';
import { BadRequestError } from '../../src/api/contract/errors';
import { expectedTensors, parseConfig } from '../../src/models/config';

const LLAMA = {
  model_type: 'llama',
  vocab_size: 131,
  hidden_size: 36,
  intermediate_size: 52,
  num_hidden_layers: 3,
  num_attention_heads: 3,
  num_key_value_heads: 1,
  head_dim: 10,
  hidden_act: 'silu',
  rms_norm_eps: 1e-5,
  max_position_embeddings: 128,
  rope_theta: 500000,
  rope_scaling: null,
  tie_word_embeddings: true,
  eos_token_id: [2, 5],
};

const LLAMA3 = {
  rope_type: 'llama3',
  factor: 32,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 8192,
};

const without = (field: keyof typeof LLAMA): object =>
  Object.fromEntries(Object.entries(LLAMA).filter(([key]) => key !== field));

describe('parseConfig', () => {
  it('reads a complete configuration', () => {
    expect(parseConfig(LLAMA)).toEqual({
      modelType: 'llama',
      vocabSize: 131,
      hiddenSize: 36,
      intermediateSize: 52,
      layers: 3,
      heads: 3,
      kvHeads: 1,
      headDim: 10,
      rmsNormEps: 1e-5,
      rope: { theta: 500000, scaling: { type: 'none' } },
      tieWordEmbeddings: true,
      maxPositionEmbeddings: 128,
      eosTokenIds: [2, 5],
    });
  });

  it('derives what older files leave out', () => {
    const { heads, kvHeads, headDim, rope, eosTokenIds } = parseConfig({
      ...LLAMA,
      head_dim: null,
      num_key_value_heads: undefined,
      rope_theta: undefined,
      eos_token_id: null,
    });
    expect({ heads, kvHeads, headDim }).toEqual({ heads: 3, kvHeads: 3, headDim: 12 });
    expect(rope).toEqual({ theta: 10000, scaling: { type: 'none' } });
    expect(eosTokenIds).toEqual([]);
  });

  it('reads RoPE parameters in the spellings of transformers 4 and 5 alike', () => {
    const scaling = {
      type: 'llama3',
      factor: 32,
      lowFreqFactor: 1,
      highFreqFactor: 4,
      originalMaxPositionEmbeddings: 8192,
    };
    expect(parseConfig({ ...LLAMA, rope_scaling: LLAMA3 }).rope).toEqual({ theta: 500000, scaling });
    const v5 = { ...without('rope_theta'), rope_parameters: { rope_theta: 500000, ...LLAMA3 } };
    expect(parseConfig(v5).rope).toEqual({ theta: 500000, scaling });
    const linear = { ...LLAMA, rope_scaling: { type: 'linear', factor: 2 } };
    expect(parseConfig(linear).rope.scaling).toEqual({ type: 'linear', factor: 2 });
    const plain = { ...LLAMA, rope_parameters: { rope_theta: 1000, rope_type: 'default' } };
    expect(parseConfig(plain).rope).toEqual({ theta: 1000, scaling: { type: 'none' } });
  });

  const required = [
    'model_type',
    'vocab_size',
    'hidden_size',
    'intermediate_size',
    'num_hidden_layers',
    'num_attention_heads',
    'rms_norm_eps',
    'max_position_embeddings',
  ] as const;
  for (const field of required) {
    it(`names ${field} when it is missing`, () => {
      expect(() => parseConfig(without(field))).toThrow(BadRequestError);
      expect(() => parseConfig(without(field))).toThrow(`config.json: ${field}`);
    });
  }

  const odd: [change: object, message: RegExp][] = [
    [{ model_type: 'gpt2' }, /model_type = "gpt2"/],
    [{ attention_bias: true }, /attention_bias is true/],
    [{ mlp_bias: true }, /mlp_bias is true/],
    [{ mlp_bias: 'no' }, /mlp_bias = "no", not a boolean/],
    [{ hidden_act: 'gelu' }, /hidden_act = "gelu"/],
    [{ vocab_size: '131' }, /vocab_size = "131"/],
    [{ vocab_size: 1.5 }, /vocab_size = 1.5/],
    [{ num_hidden_layers: 0 }, /num_hidden_layers = 0/],
    [{ num_key_value_heads: 2 }, /num_key_value_heads = 2 does not divide/],
    [{ head_dim: 9 }, /head_dim = 9 is odd/],
    [{ head_dim: null, hidden_size: 37 }, /hidden_size = 37 is not a multiple/],
    [{ rms_norm_eps: -1 }, /rms_norm_eps = -1/],
    [{ rope_theta: 0 }, /rope_theta = 0/],
    [{ rope_scaling: 'linear' }, /rope_scaling is not an object/],
    [{ rope_scaling: {} }, /rope_scaling\.rope_type is missing/],
    [{ rope_scaling: { rope_type: 'yarn', factor: 2 } }, /rope_scaling\.rope_type = "yarn"/],
    [{ rope_scaling: { rope_type: 'linear' } }, /rope_scaling\.factor is missing/],
    [{ rope_scaling: { ...LLAMA3, high_freq_factor: 1 } }, /high_freq_factor = 1 is not above/],
    [{ rope_parameters: { rope_type: 'default', partial_rotary_factor: 0.5 } }, /partial_rotary_factor/],
    [{ tie_word_embeddings: 1 }, /tie_word_embeddings = 1/],
    [{ eos_token_id: 131 }, /eos_token_id = 131/],
    [{ eos_token_id: [2, null] }, /eos_token_id = \[2,null\]/],
  ];
  for (const [change, message] of odd) {
    it(`refuses ${JSON.stringify(change)}`, () => {
      expect(() => parseConfig({ ...LLAMA, ...change })).toThrow(message);
      expect(() => parseConfig({ ...LLAMA, ...change })).toThrow(BadRequestError);
    });
  }

  it('refuses what is no object', () => {
    for (const json of [null, 3, [], 'x']) expect(() => parseConfig(json)).toThrow(/not a JSON object/);
  });
});

describe('expectedTensors', () => {
  it('lists nine tensors a layer, the embedding, the norm, and an unembedding unless tied', () => {
    const tied = expectedTensors(parseConfig(LLAMA));
    expect(tied.size).toBe(3 * 9 + 2);
    expect(tied.get('model.layers.2.self_attn.o_proj.weight')).toEqual([36, 30]);
    const untied = expectedTensors(parseConfig({ ...LLAMA, tie_word_embeddings: false }));
    expect(untied.get('lm_head.weight')).toEqual([131, 36]);
  });
});
