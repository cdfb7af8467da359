/** Models in Node: the built-in ones are files beside the code, and any folder of the disk may be one. */
import { createReadStream, statSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import { Readable } from 'node:stream';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { NotFoundError } from '../api/contract/errors';
import { loadModel } from '../models/load';
import { builtInModels, MODEL_FILES, type ModelSources } from '../models/sources';

/** Bytes read at once. */
const CHUNK = 1 << 20;

/** `fetch`, which also reads `file:` addresses. */
export const fetchAny: typeof fetch = async (input, init) => {
  const url = new URL(input instanceof Request ? input.url : input);
  if (url.protocol !== 'file:') return fetch(input, init);
  // what a bundler asked for, not the name of a file
  url.search = '';
  const path = fileURLToPath(url);
  const { size } = await stat(path).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code !== 'ENOENT' && cause.code !== 'ENOTDIR') throw cause;
    const needed = `A model is a folder with ${MODEL_FILES.join(', ')}.`;
    throw new NotFoundError(`${path}: there is no such file. ${needed}`, { cause });
  });
  const stream = createReadStream(path, {
    highWaterMark: CHUNK,
    ...(init?.signal && { signal: init.signal }),
  });
  const body = Readable.toWeb(stream) as ReadableStream<Uint8Array>;
  return new Response(body, { headers: { 'content-length': String(size) } });
};

/** The address of the folder that `name` is the path of, if it is one. */
function folderOf(name: string): ModelSources {
  if (builtInModels().includes(name) || /^https?:/.test(name)) return {};
  if (name.startsWith('file:')) return { [name]: name };
  // as in Python, `models/mine` is a folder if there is one
  const isPath = isAbsolute(name) || /^\.{1,2}([/\\]|$)/.test(name);
  const isFolder = isPath || statSync(name, { throwIfNoEntry: false })?.isDirectory();
  return isFolder ? { [name]: pathToFileURL(join(name, '/')).href } : {};
}

/** Loads a built-in model, one in a folder, or one at an `https:` address. */
export const loadAnyModel: typeof loadModel = (name, options) =>
  loadModel(name, { ...options, fetch: fetchAny, modelSources: folderOf(name) });
