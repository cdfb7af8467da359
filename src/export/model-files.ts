/** The small files of an exported model's folder, as transformers and transformers.js look for them. */
import type { TokenizerPayload } from '../api/contract/types';

export interface ModelFilesOptions {
  /** the base model's parsed config.json */
  readonly configJson: unknown;
  readonly tokenizer: TokenizerPayload;
  /** whether the unembedding is the embedding matrix */
  readonly tied: boolean;
  /** files that hold the weights beside the graph; 0: they are in it */
  readonly dataFiles: number;
}

type Json = Readonly<Record<string, unknown>>;

/** By path in the folder. */
export function modelFiles({ configJson, tokenizer, tied, dataFiles }: ModelFilesOptions): Map<string, Blob> {
  const config = configJson as Json;
  return new Map([
    ['config.json', json(exportedConfig(config, tied, dataFiles))],
    ['generation_config.json', json(generationConfig(config))],
    ['tokenizer.json', json(tokenizer.tokenizerJson)],
    ['tokenizer_config.json', json(tokenizer.tokenizerConfig)],
  ]);
}

const json = (value: unknown): Blob =>
  new Blob([JSON.stringify(value, null, 2), '\n'], { type: 'application/json' });

function exportedConfig(config: Json, tied: boolean, dataFiles: number): Json {
  // whichever of the two names the file has for the type of its weights
  const types = ['dtype', 'torch_dtype'].filter((key) => key in config);
  return {
    ...config,
    architectures: ['LlamaForCausalLM'],
    ...Object.fromEntries(types.map((key) => [key, 'float32'])),
    tie_word_embeddings: tied,
    // transformers.js would look for 8-bit weights in browsers
    'transformers.js_config': {
      dtype: 'fp32',
      ...(dataFiles > 0 && { use_external_data_format: { 'model.onnx': dataFiles } }),
    },
  };
}

/** What generation needs to know, in a file of its own. */
function generationConfig(config: Json): Json {
  const tokens = ['bos_token_id', 'eos_token_id', 'pad_token_id'];
  return Object.fromEntries(
    tokens
      .filter((key) => config[key] !== undefined && config[key] !== null)
      .map((key) => [key, config[key]]),
  );
}
