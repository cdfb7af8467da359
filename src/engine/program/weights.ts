/** The names under which a base model's tensors are bound, and how its files are stacked into them. */
import type { DecoderConfig } from '../../models/config';
import type { HostTensor } from '../../models/safetensors';
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
  /** the loaded tensors that these are */
  readonly tensors: readonly string[];
}

/** Turns Hugging Face tensors into the stacked tensors the programs use, one at a time. */
export function* stackWeights(
  config: DecoderConfig,
  loaded: ReadonlyMap<string, HostTensor>,
): Generator<HostWeight> {
  const weight = (name: string, shape: readonly number[], ...tensors: string[]): HostWeight => {
    const parts = tensors.map((tensor) => {
      const found = loaded.get(tensor);
      if (!found) throw new Error(`the loaded model lacks ${tensor}`);
      return found.data;
    });
    return { name, shape, parts, tensors };
  };
  const { hiddenSize: d, vocabSize: v, layers } = config;
  yield weight('embed', [v, d], 'model.embed_tokens.weight');
  for (let i = 0; i < layers; i++) {
    const at = `model.layers.${i}`;
    yield weight(`norm1.${i}`, [d], `${at}.input_layernorm.weight`);
    yield weight(`norm2.${i}`, [d], `${at}.post_attention_layernorm.weight`);
  }
  for (const linear of linearsOf(config)) {
    if (linear.kind === 'unembed') continue;
    const members = linear.members.map((m) => `model.${m.name}.weight`);
    yield weight(baseName(linear.key), [rowsOf(linear), linear.inputs], ...members);
  }
  if (!config.tieWordEmbeddings) {
    yield weight(baseName('lm_head'), [v, d], 'lm_head.weight');
  }
  yield weight('norm', [d], 'model.norm.weight');
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
    tensors: [],
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
