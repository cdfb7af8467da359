/**
 * The engine in a worker, seen as a `Backend`. Adds what Comlink lacks: when
 * the worker ends, every pending call rejects, and every later one too.
 */
import * as Comlink from 'comlink';
import type { EngineHost, EngineSetup, Platform } from '../engine/host';
import { installErrorHandler, sendCall, watchLife, type Door } from '../engine/rpc';
import type { Backend, CallOptions } from './contract/backend';
import {
  AbortedError,
  asTinkerError,
  UnsupportedError,
  WorkerDiedError,
  type TinkerError,
} from './contract/errors';

/** Starts a worker of this name. The expression must stay as it is: bundlers look for it. */
const startEngine = (name: string): Worker =>
  new Worker(new URL('../engine/worker.ts', import.meta.url), { type: 'module', name });

/**
 * An engine in a Web Worker.
 * @param start makes it, with the name it is given (for tests)
 */
export function webHost(start: (name: string) => Worker = startEngine): EngineHost {
  if (typeof Worker === 'undefined') {
    throw new UnsupportedError(
      'There are no Web Workers here for the engine; in Node, import the entry that package.json names for `node`.',
    );
  }
  const name = `webtinker-${Math.random().toString(36).slice(2)}`;
  const worker = start(name);
  return {
    endpoint: worker,
    watch: (onDeath) => watchLife(worker, name, onDeath),
    // a page stays anyway
    waiting: () => undefined,
    readable: async (blob) => blob,
    terminate: async () => worker.terminate(),
  };
}

export type { Platform };

/** Pages and their workers. */
export const BROWSER: Platform = { start: () => webHost(), folders: false };

export class LocalBackend implements Backend {
  readonly #host: EngineHost;
  readonly #door: Comlink.Remote<Door>;
  readonly #pending = new Set<(reason: TinkerError) => void>();
  /** why, once it has */
  #ended: TinkerError | undefined;
  #terminated: Promise<void> = Promise.resolve();

  /** Takes over a worker that was just started. */
  constructor(host: EngineHost, setup: EngineSetup) {
    installErrorHandler();
    this.#host = host;
    this.#door = Comlink.wrap<Door>(host.endpoint);
    host.watch((reason) => this.#end(new WorkerDiedError(`the engine's worker died: ${reason}`)));
    // first in the order of messages; calls that fail for it say so themselves
    void this.#door.setup(setup);
  }

  /** Sends one call. Messages keep their order, so call order is the order at the engine. */
  #call<M extends keyof Backend>(
    method: M,
    args: readonly unknown[],
    options?: CallOptions,
  ): ReturnType<Backend[M]> {
    const result = new Promise<unknown>((resolve, reject) => {
      if (this.#ended) return reject(this.#ended);
      if (this.#pending.size === 0) this.#host.waiting(true);
      this.#pending.add(reject);
      sendCall(this.#door, method, args, options)
        .then(resolve, (error: unknown) => reject(asTinkerError(error)))
        .finally(() => {
          if (this.#pending.delete(reject) && this.#pending.size === 0) this.#host.waiting(false);
        });
    });
    return result as ReturnType<Backend[M]>;
  }

  /** @param reason what every call rejects with from now on */
  #end(reason: TinkerError): void {
    if (this.#ended) return;
    this.#ended = reason;
    this.#terminated = this.#host.terminate();
    for (const reject of this.#pending) reject(reason);
    this.#pending.clear();
  }

  getServerCapabilities: Backend['getServerCapabilities'] = () => this.#call('getServerCapabilities', []);
  createSession: Backend['createSession'] = (request) => this.#call('createSession', [request]);
  createModel: Backend['createModel'] = (request, options) => this.#call('createModel', [request], options);
  getInfo: Backend['getInfo'] = (modelId) => this.#call('getInfo', [modelId]);
  getTokenizer: Backend['getTokenizer'] = (baseModel) => this.#call('getTokenizer', [baseModel]);
  forwardBackward: Backend['forwardBackward'] = (request, options) =>
    this.#call('forwardBackward', [request], options);
  optimStep: Backend['optimStep'] = (request, options) => this.#call('optimStep', [request], options);
  saveWeights: Backend['saveWeights'] = (request, options) => {
    this.#askToKeep();
    return this.#call('saveWeights', [request], options);
  };
  loadWeights: Backend['loadWeights'] = (request, options) => this.#call('loadWeights', [request], options);
  createSampler: Backend['createSampler'] = (request, options) =>
    this.#call('createSampler', [request], options);
  getSampler: Backend['getSampler'] = (samplerId) => this.#call('getSampler', [samplerId]);
  sample: Backend['sample'] = (request, options) => this.#call('sample', [request], options);
  exportOnnx: Backend['exportOnnx'] = (request, options) => this.#call('exportOnnx', [request], options);
  unloadModel: Backend['unloadModel'] = (modelId) => this.#call('unloadModel', [modelId]);
  unloadSampler: Backend['unloadSampler'] = (samplerId) => this.#call('unloadSampler', [samplerId]);
  listTrainingRuns: Backend['listTrainingRuns'] = (page) => this.#call('listTrainingRuns', [page]);
  getTrainingRun: Backend['getTrainingRun'] = (id) => this.#call('getTrainingRun', [id]);
  listCheckpoints: Backend['listCheckpoints'] = (id) => this.#call('listCheckpoints', [id]);
  listUserCheckpoints: Backend['listUserCheckpoints'] = (page) => this.#call('listUserCheckpoints', [page]);
  getWeightsInfo: Backend['getWeightsInfo'] = (path) => this.#call('getWeightsInfo', [path]);
  deleteCheckpoint: Backend['deleteCheckpoint'] = (path) => this.#call('deleteCheckpoint', [path]);
  setCheckpointPublic: Backend['setCheckpointPublic'] = (path, isPublic) =>
    this.#call('setCheckpointPublic', [path, isPublic]);
  setCheckpointTtl: Backend['setCheckpointTtl'] = (path, ttlSeconds) =>
    this.#call('setCheckpointTtl', [path, ttlSeconds]);
  getCheckpointArchive: Backend['getCheckpointArchive'] = (path) =>
    this.#call('getCheckpointArchive', [path]);
  importCheckpoint: Backend['importCheckpoint'] = async (request) => {
    this.#askToKeep();
    const { source } = request;
    const readable = async (files: Readonly<Record<string, Blob>>): Promise<Record<string, Blob>> => {
      const read = Object.entries(files).map(async ([name, blob]) => [name, await this.#host.readable(blob)]);
      return Object.fromEntries(await Promise.all(read)) as Record<string, Blob>;
    };
    const sent = source instanceof Blob ? await this.#host.readable(source) : await readable(source);
    return this.#call('importCheckpoint', [{ ...request, source: sent }]);
  };
  listSessions: Backend['listSessions'] = (page) => this.#call('listSessions', [page]);
  getSession: Backend['getSession'] = (sessionId) => this.#call('getSession', [sessionId]);
  getStorageUsage: Backend['getStorageUsage'] = () => this.#call('getStorageUsage', []);
  stats: Backend['stats'] = () => this.#call('stats', []);

  #asked = false;

  /** Asks the browser, once and without waiting, not to clear what is saved when space runs short. Workers cannot ask. */
  #askToKeep(): void {
    if (this.#asked || this.#ended) return;
    this.#asked = true;
    // absent on insecure pages and in Node; a refusal shows in `getStorageUsage`
    void globalThis.navigator?.storage?.persist().catch(() => undefined);
  }

  /** Ends the worker; what it held is freed when this resolves. Calls reject at once. */
  dispose(): Promise<void> {
    this.#end(new AbortedError('the engine was disposed'));
    return this.#terminated;
  }
}
