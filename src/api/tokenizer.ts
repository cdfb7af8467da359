/** The tokenizer users get: transformers.js's own class, made from the model's files. */
import type * as Transformers from '@huggingface/transformers';
import type { Backend } from './contract/backend';

export type Tokenizer = Transformers.PreTrainedTokenizer;

/** One tokenizer per engine and base model, however many clients ask. */
const cache = new WeakMap<Backend, Map<string, Promise<Tokenizer>>>();

/**
 * Loads transformers.js on first use: it is larger than the rest of the
 * library, and training from token ids does not need it.
 */
export function loadTokenizer(backend: Backend, baseModel: string): Promise<Tokenizer> {
  const known = cache.get(backend) ?? new Map<string, Promise<Tokenizer>>();
  cache.set(backend, known);
  const loaded = known.get(baseModel) ?? load(backend, baseModel);
  known.set(baseModel, loaded);
  // a failure is not kept: the next call tries again
  loaded.catch(() => known.delete(baseModel));
  return loaded;
}

async function load(backend: Backend, baseModel: string): Promise<Tokenizer> {
  const [{ PreTrainedTokenizer }, { tokenizerJson, tokenizerConfig }] = await Promise.all([
    loadTransformers(),
    backend.getTokenizer(baseModel),
  ]);
  return new PreTrainedTokenizer(tokenizerJson, tokenizerConfig);
}

/** transformers.js; in Node without the native code that its build for Node starts with, its build for browsers. */
async function loadTransformers(): Promise<typeof Transformers> {
  try {
    return await import('@huggingface/transformers');
  } catch (error) {
    if (!globalThis.process?.versions?.node) throw error;
    // lies beside; tokenizers are the same in both
    const web = new URL('./transformers.web.js', import.meta.resolve('@huggingface/transformers'));
    return import(/* @vite-ignore */ web.href) as Promise<typeof Transformers>;
  }
}
