/**
 * The worker door, both sides of it. Comlink carries the calls; what it would
 * lose is added here: error classes, ownership of large results, and the end of
 * progress callbacks.
 */
import * as Comlink from 'comlink';
import type { Backend } from '../api/contract/backend';
import { asTinkerError, fromWire, toWire, type ErrorWire } from '../api/contract/errors';

/** Comlink wraps what was thrown in `{ value }` before it asks this handler. */
type Thrown = { readonly value: unknown };

/** Replaces Comlink's handler, which keeps only name, message and stack of an error. Call it on both sides. */
export function installErrorHandler(): void {
  const original = Comlink.transferHandlers.get('throw');
  if (!original) throw new Error('Comlink has no "throw" handler: its version changed');
  Comlink.transferHandlers.set('throw', {
    canHandle: (value): value is unknown => original.canHandle(value),
    serialize: (thrown) => [toWire(asTinkerError((thrown as Thrown).value)), []],
    deserialize: (wire) => {
      throw fromWire(wire as ErrorWire);
    },
  });
}

/** Every method of the seam; the compiler checks that none is missing. */
const METHODS = Object.keys({
  getServerCapabilities: true,
  createModel: true,
  getInfo: true,
  getTokenizer: true,
  forwardBackward: true,
  optimStep: true,
  createSampler: true,
  sample: true,
  unloadModel: true,
  unloadSampler: true,
  stats: true,
  dispose: true,
} satisfies Record<keyof Backend, true>) as (keyof Backend)[];

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
 */
export function serve(open: () => Promise<Backend>): void {
  installErrorHandler();
  // before any answer, so that a page that has one can also see this worker end
  const alive = announceLife();
  let opened: Promise<Backend> | undefined;
  const backend = (): Promise<Backend> =>
    (opened ??= alive.then(open).catch((error: unknown) => {
      opened = undefined;
      throw error;
    }));

  const call = async (method: keyof Backend, args: unknown[]): Promise<unknown> => {
    const callback = args.find((arg) => typeof arg === 'function') as Comlink.Remote<() => void> | undefined;
    try {
      const target = (await backend()) as unknown as Record<string, (...args: unknown[]) => Promise<unknown>>;
      const result = await target[method]!(...args.map(quiet));
      return typeof result === 'object' && result !== null
        ? Comlink.transfer(result, [...largeBuffers(result)])
        : result;
    } finally {
      callback?.[Comlink.releaseProxy]();
    }
  };
  Comlink.expose(
    Object.fromEntries(METHODS.map((method) => [method, (...args: unknown[]) => call(method, args)])),
  );
}

/** A progress callback of the page as a plain function: what it throws there is not the engine's business. */
function quiet(arg: unknown): unknown {
  if (typeof arg !== 'function') return arg;
  const remote = arg as (...args: unknown[]) => Promise<unknown>;
  return async (...args: unknown[]): Promise<void> => {
    try {
      await remote(...args);
    } catch {
      // the callback threw, or the call it belonged to is over
    }
  };
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
