/** The names under which a base model's tensors are bound, and how its files are stacked into them. */
import type { DecoderConfig } from '../../models/config';
import type { LoadedModel } from '../../models/load';
import { ropeTable } from '../../kernels/rope/rope';
import { linearsOf, rowsOf } from './adapter';

/** Prefix of a frozen linear's weight among a plan's states. */
export const baseName = (key: string): string => `base.${key}`;
/** Prefix of a linear's weight with the adapter merged in. */
export const mergedName = (key: string): string => `merged.${key}`;

export interface HostWeight {
  readonly name: string;
  readonly shape: readonly number[];
  /** the parts to lay one after the other */
  readonly parts: readonly Float32Array<ArrayBuffer>[];
}

/** Turns Hugging Face tensors into the stacked tensors the programs use, one at a time. */
export function* stackWeights(config: DecoderConfig, tensors: LoadedModel['tensors']): Generator<HostWeight> {
  const take = (name: string): Float32Array<ArrayBuffer> => {
    const tensor = tensors.get(name);
    if (!tensor) throw new Error(`the loaded model lacks ${name}`);
    return tensor.data;
  };
  const { hiddenSize: d, vocabSize: v, layers } = config;
  yield { name: 'embed', shape: [v, d], parts: [take('model.embed_tokens.weight')] };
  for (let i = 0; i < layers; i++) {
    const at = `model.layers.${i}`;
    yield { name: `norm1.${i}`, shape: [d], parts: [take(`${at}.input_layernorm.weight`)] };
    yield { name: `norm2.${i}`, shape: [d], parts: [take(`${at}.post_attention_layernorm.weight`)] };
  }
  for (const linear of linearsOf(config)) {
    if (linear.kind === 'unembed') continue;
    yield {
      name: baseName(linear.key),
      shape: [rowsOf(linear), linear.inputs],
      parts: linear.members.map((m) => take(`model.${m.name}.weight`)),
    };
  }
  if (!config.tieWordEmbeddings) {
    yield { name: baseName('lm_head'), shape: [v, d], parts: [take('lm_head.weight')] };
  }
  yield { name: 'norm', shape: [d], parts: [take('model.norm.weight')] };
  const positions = config.maxPositionEmbeddings;
  yield {
    name: 'rope',
    shape: [positions, config.headDim],
    parts: [
      ropeTable(
        { theta: config.rope.theta, headDim: config.headDim, scaling: ropeScaling(config) },
        positions,
      ),
    ],
  };
}

/** The scaling under the field names of Hugging Face, which `ropeTable` reads. */
function ropeScaling({ rope: { scaling } }: DecoderConfig): unknown {
  switch (scaling.type) {
    case 'none':
      return undefined;
    case 'linear':
      return { rope_type: 'linear', factor: scaling.factor };
    case 'llama3':
      return {
        rope_type: 'llama3',
        factor: scaling.factor,
        low_freq_factor: scaling.lowFreqFactor,
        high_freq_factor: scaling.highFreqFactor,
        original_max_position_embeddings: scaling.originalMaxPositionEmbeddings,
      };
  }
}

/** The name the unembedding weight is bound under: the embedding itself when they are tied. */
export const unembedName = (config: DecoderConfig): string =>
  config.tieWordEmbeddings ? 'embed' : baseName('lm_head');
