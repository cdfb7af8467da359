/** Loads a model: fetches the files of a Hugging Face folder and checks that they fit together. */
import type { ProgressEvent, TokenizerPayload } from '../api/contract/types';
import {
  AbortedError,
  APIConnectionError,
  BadRequestError,
  statusError,
  TinkerError,
} from '../api/contract/errors';
import { expectedTensors, parseConfig, type DecoderConfig } from './config';
import { parseSafetensors, type HostTensor } from './safetensors';
import { resolveModel, type ModelSources } from './sources';

export interface LoadOptions {
  /** addresses of models that are not built in, by name */
  readonly modelSources?: ModelSources;
  /** how files are read; default: the global `fetch` */
  readonly fetch?: typeof globalThis.fetch;
  readonly onProgress?: (event: ProgressEvent) => void;
  /** called as soon as it is known what the model is, before its weights are there */
  readonly onConfig?: (config: DecoderConfig) => void;
  readonly signal?: AbortSignal;
}

export interface LoadedModel {
  readonly name: string;
  readonly config: DecoderConfig;
  /** the parsed config.json that it was read from */
  readonly configJson: unknown;
  /** by Hugging Face name; exactly those the configuration asks for, all f32, matrices (out, in); an engine empties it */
  readonly tensors: Map<string, HostTensor>;
  readonly tokenizer: TokenizerPayload;
}

/**
 * Loads a model by name into memory.
 *
 * @throws NotFoundError for an unknown name or a missing file
 * @throws BadRequestError for files that are malformed or do not fit the configuration
 * @throws APIConnectionError if a file cannot be read
 * @throws AbortedError if `signal` fires
 */
export async function loadModel(name: string, options: LoadOptions = {}): Promise<LoadedModel> {
  const source = resolveModel(name, options.modelSources);
  const configJson = await fetchJson(source['config.json'], options);
  const config = parseConfig(configJson, `${name} config.json`);
  options.onConfig?.(config);
  const [tokenizerJson, tokenizerConfig, weights] = await Promise.all([
    fetchJson(source['tokenizer.json'], options),
    fetchJson(source['tokenizer_config.json'], options),
    fetchBytes(source['model.safetensors'], name, options),
  ]);
  const { tensors } = parseSafetensors(weights, `${name} model.safetensors`);
  return {
    name,
    config,
    configJson,
    tensors: pickTensors(name, config, tensors),
    tokenizer: { tokenizerJson, tokenizerConfig },
  };
}

/** Loads only the configuration of a model (what it is and how long its context is). Errors as `loadModel`. */
export async function loadConfig(name: string, options: LoadOptions = {}): Promise<DecoderConfig> {
  const source = resolveModel(name, options.modelSources);
  return parseConfig(await fetchJson(source['config.json'], options), `${name} config.json`);
}

/** Keeps what the decoder needs; buffers such as `rotary_emb.inv_freq` and a tied `lm_head` copy are dropped. */
function pickTensors(
  name: string,
  config: DecoderConfig,
  found: ReadonlyMap<string, HostTensor>,
): Map<string, HostTensor> {
  if (config.layers > found.size) {
    throw new BadRequestError(
      `${name}: ${found.size} tensors cannot make num_hidden_layers = ${config.layers}`,
    );
  }
  const picked = new Map<string, HostTensor>();
  for (const [key, shape] of expectedTensors(config)) {
    const tensor = found.get(key);
    if (!tensor) throw new BadRequestError(`${name} model.safetensors: tensor '${key}' is missing`);
    if (tensor.shape.length !== shape.length || tensor.shape.some((s, i) => s !== shape[i])) {
      throw new BadRequestError(
        `${name} model.safetensors: tensor '${key}' has shape [${tensor.shape.join(', ')}], ` +
          `its config.json asks for [${shape.join(', ')}]`,
      );
    }
    picked.set(key, tensor);
  }
  return picked;
}

/** What to throw for a failure while reading `url`. */
function readFailure(url: URL, signal: AbortSignal | undefined, cause: unknown): Error {
  return signal?.aborted
    ? new AbortedError(`loading ${url.href} was aborted`, { cause: signal.reason })
    : new APIConnectionError(`${url.href}: cannot be read`, { cause });
}

async function request(url: URL, { fetch = globalThis.fetch, signal }: LoadOptions): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, signal ? { signal } : {});
  } catch (cause) {
    if (cause instanceof TinkerError) throw cause;
    throw readFailure(url, signal, cause);
  }
  if (response.ok) return response;
  throw statusError(response.status, `${url.href}: HTTP ${response.status} ${response.statusText}`.trimEnd());
}

async function fetchJson(url: URL, options: LoadOptions): Promise<unknown> {
  const text = new TextDecoder().decode(await readBody(await request(url, options), url, options));
  try {
    return JSON.parse(text);
  } catch (cause) {
    // development servers answer unknown paths with a page
    throw new BadRequestError(`${url.href}: not JSON (it starts with ${JSON.stringify(text.slice(0, 20))})`, {
      cause,
    });
  }
}

async function fetchBytes(url: URL, what: string, options: LoadOptions): Promise<ArrayBuffer> {
  return readBody(await request(url, options), url, options, (loaded, total) =>
    options.onProgress?.({ phase: 'download', what, loaded, total }),
  );
}

/**
 * Reads a body piece by piece, where its length is announced into memory of that size: weights are large.
 * A body shorter or longer than announced is an error.
 */
async function readBody(
  response: Response,
  url: URL,
  { signal }: LoadOptions,
  onBytes: (loaded: number, total: number) => void = () => {},
): Promise<ArrayBuffer> {
  // Content-Length counts compressed bytes where the transfer is compressed
  const encoded = response.headers.has('content-encoding');
  const length = encoded ? null : response.headers.get('content-length');
  const announced = length === null ? undefined : Number(length);
  let bytes = new Uint8Array(announced ?? 0);
  let loaded = 0;
  try {
    const reader = response.body?.getReader();
    for (;;) {
      const part = await reader?.read();
      if (!part || part.done) break;
      const end = loaded + part.value.byteLength;
      if (end > bytes.length) bytes = grown(bytes, end);
      bytes.set(part.value, loaded);
      loaded = end;
      onBytes(loaded, Math.max(loaded, announced ?? 0));
    }
  } catch (cause) {
    throw readFailure(url, signal, cause);
  }
  if (announced !== undefined && announced !== loaded) {
    throw new APIConnectionError(`${url.href}: ${loaded} bytes arrived of ${announced}`);
  }
  return loaded === bytes.length ? bytes.buffer : bytes.buffer.slice(0, loaded);
}

/** A copy with room for `needed` bytes, and for as many as there were again. */
function grown(bytes: Uint8Array, needed: number): Uint8Array<ArrayBuffer> {
  const larger = new Uint8Array(Math.max(needed, 2 * bytes.length));
  larger.set(bytes);
  return larger;
}
