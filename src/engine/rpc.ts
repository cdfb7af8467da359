/**
 * The worker door, both sides of it. Comlink carries the calls; what it would
 * lose is added here: error classes, ownership of large results, cancellation,
 * and the end of callbacks.
 */
import * as Comlink from 'comlink';
import type { Backend, CallOptions } from '../api/contract/backend';
import { AbortedError, asTinkerError, fromWire, toWire, type ErrorWire } from '../api/contract/errors';
import type { EngineSetup } from './host';

/** Comlink wraps what was thrown in `{ value }` before it asks this handler. */
type Thrown = { readonly value: unknown };

let installed = false;

/** Replaces Comlink's handler, which keeps only name, message and stack of an error. Call it on both sides. */
export function installErrorHandler(): void {
  if (installed) return;
  const original = Comlink.transferHandlers.get('throw');
  if (!original) throw new Error('Comlink has no "throw" handler: its version changed');
  Comlink.transferHandlers.set('throw', {
    canHandle: (value): value is unknown => original.canHandle(value),
    serialize: (thrown) => [toWire(asTinkerError((thrown as Thrown).value)), []],
    deserialize: (wire) => {
      throw fromWire(wire as ErrorWire);
    },
  });
  installed = true;
}

/** What the options of a call may hold beside its signal. */
type CallbackName = 'onProgress' | 'onTokens';

/** Every method of the seam, with the callback its options may have; the compiler checks that none is missing. */
const METHODS: Record<keyof Backend, CallbackName | null> = {
  getServerCapabilities: null,
  createSession: null,
  createModel: 'onProgress',
  getInfo: null,
  getTokenizer: null,
  forwardBackward: null,
  optimStep: null,
  saveWeights: null,
  loadWeights: null,
  createSampler: 'onProgress',
  getSampler: null,
  sample: 'onTokens',
  exportOnnx: 'onProgress',
  unloadModel: null,
  unloadSampler: null,
  listTrainingRuns: null,
  getTrainingRun: null,
  listCheckpoints: null,
  listUserCheckpoints: null,
  getWeightsInfo: null,
  deleteCheckpoint: null,
  setCheckpointPublic: null,
  setCheckpointTtl: null,
  getCheckpointArchive: null,
  importCheckpoint: null,
  listSessions: null,
  getSession: null,
  getStorageUsage: null,
  stats: null,
  dispose: null,
};

type Callback = (event: never) => void;

/** What crosses: a call with its number, and the wish to give one up. Signals and callbacks cannot be cloned. */
export interface Door {
  /** comes before any call */
  setup(setup: EngineSetup): void;
  call(
    id: number,
    method: keyof Backend,
    args: readonly unknown[],
    callback?: Callback & Comlink.ProxyMarked,
  ): Promise<unknown>;
  cancel(id: number): void;
}

let calls = 0;

/** Page side: sends one call through the door, and its cancellation when the signal of `options` fires. */
export async function sendCall(
  door: Comlink.Remote<Door>,
  method: keyof Backend,
  args: readonly unknown[],
  options: CallOptions & Partial<Record<CallbackName, Callback | undefined>> = {},
): Promise<unknown> {
  const { signal } = options;
  if (signal?.aborted) throw new AbortedError(`${method} was aborted before it was sent`);
  const name = METHODS[method];
  const callback = name ? options[name] : undefined;
  const id = ++calls;
  // a fresh function, since Comlink marks what it is given; it answers nothing, since Comlink waits for promises
  const proxy = callback && Comlink.proxy((event: never) => void callback(event));
  const result = door.call(id, method, args, proxy);
  const cancel = (): void => void door.cancel(id);
  signal?.addEventListener('abort', cancel, { once: true });
  try {
    return await result;
  } finally {
    signal?.removeEventListener('abort', cancel);
  }
}

/** Smaller buffers are cheaper to copy than to transfer, bytes. */
const TRANSFER_BYTES = 16384;

/** The large buffers inside a result; the engine gives them up. */
function largeBuffers(value: unknown, found = new Set<ArrayBuffer>()): Set<ArrayBuffer> {
  if (ArrayBuffer.isView(value)) {
    if (value.buffer instanceof ArrayBuffer && value.buffer.byteLength >= TRANSFER_BYTES)
      found.add(value.buffer);
  } else if (Array.isArray(value)) {
    // lists of numbers are long and hold no buffers
    if (typeof value[0] !== 'number') for (const item of value) largeBuffers(item, found);
  } else if (typeof value === 'object' && value !== null) {
    for (const item of Object.values(value)) largeBuffers(item, found);
  }
  return found;
}

/**
 * Makes this worker answer calls, with the backend that `open` makes at the
 * first one. Calls reach the backend in the order of their messages. If opening
 * fails, the calls so far reject and the next one tries again.
 * @param port where calls come from, if the platform itself tells when this worker ends; default: the page
 * @returns the backend, if it was opened
 */
export function serve(
  open: (setup: EngineSetup) => Promise<Backend>,
  port?: Comlink.Endpoint,
): () => Promise<Backend> | undefined {
  installErrorHandler();
  // before any answer, so that a page that has one can also see this worker end
  const alive = port ? Promise.resolve() : announceLife();
  let setup: EngineSetup;
  let opened: Promise<Backend> | undefined;
  const backend = (): Promise<Backend> =>
    (opened ??= alive
      .then(() => open(setup))
      .catch((error: unknown) => {
        opened = undefined;
        throw error;
      }));

  const running = new Map<number, AbortController>();
  const door: Door = {
    setup: (told) => void (setup = told),
    async call(id, method, args, callback) {
      const cancel = new AbortController();
      running.set(id, cancel);
      const relay = callback && new Relay(callback as unknown as Comlink.Remote<Callback>);
      const name = METHODS[method];
      const options = { signal: cancel.signal, ...(relay && name && { [name]: relay.send }) };
      try {
        const target = (await backend()) as unknown as Record<string, (...a: unknown[]) => Promise<unknown>>;
        const result = await target[method]!(...args, options);
        return typeof result === 'object' && result !== null
          ? Comlink.transfer(result, [...largeBuffers(result)])
          : result;
      } finally {
        running.delete(id);
        await relay?.close();
      }
    },
    cancel: (id) => running.get(id)?.abort(),
  };
  Comlink.expose(door, port);
  return () => opened;
}

/** A callback of the page as a plain function: what it throws there is not the engine's business. */
class Relay {
  readonly #sent = new Set<Promise<void>>();
  #closed = false;

  constructor(private readonly remote: Comlink.Remote<Callback>) {}

  readonly send = (event: never): void => {
    // the call it belonged to is over
    if (this.#closed) return;
    const sent = this.remote(event).then(
      () => undefined,
      // the callback threw
      () => undefined,
    );
    this.#sent.add(sent);
    void sent.finally(() => this.#sent.delete(sent));
  };

  /** Waits until the page has had every event: they travel on a port of their own, and would lose to the result. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all(this.#sent);
    this.remote[Comlink.releaseProxy]();
  }
}

const LOCK_HELD = 'webtinker:lock-held';

/**
 * Worker side: takes a lock named like the worker for as long as it lives, and
 * says so. Browsers send no event when a worker closes itself or is killed for
 * memory, but they do free its locks.
 */
function announceLife(): Promise<void> {
  // not on insecure pages, which have no WebGPU either: opening the engine says so
  if (!('locks' in navigator)) return Promise.resolve();
  const scope = globalThis as unknown as { name: string; postMessage(message: unknown): void };
  return new Promise((held, failed) => {
    navigator.locks
      .request(scope.name, () => {
        scope.postMessage(LOCK_HELD);
        held();
        return new Promise<never>(() => undefined);
      })
      .catch(failed);
  });
}

/** Page side: calls `onDeath` with a reason, at least once, when the worker `name` has ended or can no longer be understood. */
export function watchLife(worker: Worker, name: string, onDeath: (reason: string) => void): void {
  worker.addEventListener('error', (event) => {
    // it is reported here, as what rejects the calls
    event.preventDefault();
    onDeath(event.message || 'its script could not be loaded or threw');
  });
  worker.addEventListener('messageerror', () => onDeath('a message could not be decoded'));
  worker.addEventListener('message', ({ data }: MessageEvent<unknown>) => {
    if (data === LOCK_HELD) void navigator.locks.request(name, () => onDeath('it closed or was killed'));
  });
}
