/** Where models come from: the built-in ones, and folders the user registers by URL. */
import { BadRequestError, NotFoundError } from '../api/contract/errors';

/** The files of a Hugging Face folder that the engine reads. */
export const MODEL_FILES = [
  'config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'model.safetensors',
] as const;
export type ModelFile = (typeof MODEL_FILES)[number];

/** The address of every file of one model. */
export type ModelSource = Readonly<Record<ModelFile, URL>>;

/**
 * The models shipped with the library. Each address is spelled out whole because
 * bundlers recognise exactly `new URL('literal', import.meta.url)`; `?no-inline`
 * keeps vite's library mode from pasting the weights into the script as base64.
 */
const BUILT_IN: ReadonlyMap<string, () => ModelSource> = new Map([
  [
    'webtinker/pocket',
    () => ({
      'config.json': new URL('../../models/pocket/config.json?no-inline', import.meta.url),
      'tokenizer.json': new URL('../../models/pocket/tokenizer.json?no-inline', import.meta.url),
      'tokenizer_config.json': new URL(
        '../../models/pocket/tokenizer_config.json?no-inline',
        import.meta.url,
      ),
      'model.safetensors': new URL('../../models/pocket/model.safetensors?no-inline', import.meta.url),
    }),
  ],
]);

/** Folders of models by name: an absolute URL, or a path relative to the page. */
export type ModelSources = Readonly<Record<string, string>>;

/** The names of the models shipped with the library. */
export const builtInModels = (): string[] => [...BUILT_IN.keys()];

/** Every model name that can be loaded, the built-in ones first. */
export function knownModels(modelSources: ModelSources = {}): string[] {
  return [...new Set([...BUILT_IN.keys(), ...Object.keys(modelSources)])];
}

/** A name that is itself an address: `https://host/folder/`, or `/folder/` on the page's own server. */
const ADDRESS = /^(https?:\/)?\//;

/**
 * The files of a model: a registered name, a built-in one, or the address of a
 * folder with `config.json`, `model.safetensors` and the tokenizer's files.
 *
 * @throws NotFoundError for an unknown name, listing the known ones
 * @throws BadRequestError if the registered address is not a URL
 */
export function resolveModel(name: string, modelSources: ModelSources = {}): ModelSource {
  if (Object.hasOwn(modelSources, name)) return folderSource(name, modelSources[name]!);
  const builtIn = BUILT_IN.get(name);
  if (builtIn) return builtIn();
  if (ADDRESS.test(name)) return folderSource(name, name);
  throw new NotFoundError(
    `base_model: unknown model '${name}'; known: ${knownModels(modelSources).join(', ')}, or a model's folder by its URL (in Node also by its path)`,
  );
}

function folderSource(name: string, base: string): ModelSource {
  // in a worker made from a blob, location.href is no base for relative paths, but its origin is
  const page = globalThis.location?.href.startsWith('blob:')
    ? globalThis.location.origin
    : globalThis.location?.href;
  let folder: URL;
  try {
    folder = new URL(base.endsWith('/') ? base : `${base}/`, page);
  } catch {
    throw new BadRequestError(`modelSources['${name}']: '${base}' is not the URL of a folder`);
  }
  return Object.fromEntries(MODEL_FILES.map((file) => [file, new URL(file, folder)])) as Record<
    ModelFile,
    URL
  >;
}
