/**
 * The engine in a Web Worker, seen as a `Backend`. Adds what Comlink lacks: when
 * the worker ends, every pending call rejects, and every later one too.
 */
import * as Comlink from 'comlink';
import { installErrorHandler, watchLife } from '../engine/rpc';
import type { Backend } from './contract/backend';
import { asTinkerError, WebGPUUnavailableError, WorkerDiedError } from './contract/errors';
import type { ProgressEvent } from './contract/types';

type Progress = (event: ProgressEvent) => void;

/** Starts a worker of this name. The expression must stay as it is: bundlers look for it. */
const startEngine = (name: string): Worker =>
  new Worker(new URL('../engine/worker.ts', import.meta.url), { type: 'module', name });

export class LocalBackend implements Backend {
  readonly #worker: Worker;
  readonly #remote: Comlink.Remote<Backend>;
  readonly #pending = new Set<(reason: WorkerDiedError) => void>();
  #death: string | undefined;

  /** Starts the worker. @param start makes it, with the name it is given (for tests) */
  constructor(start: (name: string) => Worker = startEngine) {
    if (typeof Worker === 'undefined') {
      throw new WebGPUUnavailableError(
        'This release computes in a browser with WebGPU; where there are no Web Workers (as in Node), give a `backend` of your own.',
      );
    }
    installErrorHandler();
    const name = `webtinker-${Math.random().toString(36).slice(2)}`;
    this.#worker = start(name);
    this.#remote = Comlink.wrap<Backend>(this.#worker);
    watchLife(this.#worker, name, (reason) => this.#die(`the engine's worker died: ${reason}`));
  }

  /** Sends one call. Messages keep their order, so call order is the order at the engine. */
  #call<T>(send: (remote: Comlink.Remote<Backend>) => Promise<T>): Promise<T> {
    if (this.#death !== undefined) return Promise.reject(new WorkerDiedError(this.#death));
    return new Promise<T>((resolve, reject) => {
      this.#pending.add(reject);
      send(this.#remote)
        .then(resolve, (error: unknown) => reject(asTinkerError(error)))
        .finally(() => this.#pending.delete(reject));
    });
  }

  #die(reason: string): void {
    if (this.#death !== undefined) return;
    this.#death = reason;
    this.#worker.terminate();
    for (const reject of this.#pending) reject(new WorkerDiedError(reason));
    this.#pending.clear();
  }

  getServerCapabilities: Backend['getServerCapabilities'] = () =>
    this.#call((r) => r.getServerCapabilities());
  createModel: Backend['createModel'] = (request, onProgress) =>
    this.#call((r) => r.createModel(request, proxied(onProgress)));
  getInfo: Backend['getInfo'] = (modelId) => this.#call((r) => r.getInfo(modelId));
  getTokenizer: Backend['getTokenizer'] = (baseModel) => this.#call((r) => r.getTokenizer(baseModel));
  forwardBackward: Backend['forwardBackward'] = (request) => this.#call((r) => r.forwardBackward(request));
  optimStep: Backend['optimStep'] = (request) => this.#call((r) => r.optimStep(request));
  createSampler: Backend['createSampler'] = (request, onProgress) =>
    this.#call((r) => r.createSampler(request, proxied(onProgress)));
  sample: Backend['sample'] = (request) => this.#call((r) => r.sample(request));
  unloadModel: Backend['unloadModel'] = (modelId) => this.#call((r) => r.unloadModel(modelId));
  unloadSampler: Backend['unloadSampler'] = (samplerId) => this.#call((r) => r.unloadSampler(samplerId));
  stats: Backend['stats'] = () => this.#call((r) => r.stats());

  /** Ends the worker at once; the browser frees its GPU memory. */
  dispose(): Promise<void> {
    this.#die('the engine was disposed');
    return Promise.resolve();
  }
}

/** A callback that stays on this side. A fresh function, since Comlink marks what it is given. */
const proxied = (callback: Progress | undefined): (Progress & Comlink.ProxyMarked) | undefined =>
  callback && Comlink.proxy((event: ProgressEvent) => callback(event));
