/** ONNX Runtime as WebAssembly: the package onnxruntime-web, in any browser and in Node. */
import type * as Ort from 'onnxruntime-web/wasm';
import { DeviceUnavailableError } from '../../../api/contract/errors';
import { Graph } from '../../../onnx/graph';
import { serialize } from '../../../onnx/serialize';
import type { DeviceOpener } from '../device';
import { OnnxDevice } from './device';
import { SESSION_OPTIONS, type OnnxRuntime } from './runtime';

export interface WasmOptions {
  /** Most threads; default: as many as the processor has cores, up to 8. One where memory cannot be shared. */
  readonly threads?: number;
  /** How to read the runtime's file where the platform's own `fetch` cannot (Node: a file on the disk). */
  readonly fetch?: typeof fetch;
}

/** Threads beyond which a step of the models that fit here gains nothing. */
const MOST_THREADS = 8;

/** Milliseconds that the runtime may take to start its threads; a page may forbid the workers that they are. */
const START_LIMIT = 30_000;

const ADVICE =
  'This page may use one thread only. To allow more, serve it with the headers `Cross-Origin-Opener-Policy: same-origin` and `Cross-Origin-Embedder-Policy: require-corp`.';

/** Opens ONNX Runtime as WebAssembly; its files are loaded only then. */
export const wasmOpener = (options: WasmOptions = {}): DeviceOpener => ({
  kind: 'wasm',
  open: async () => new OnnxDevice(await openRuntime(options)),
});

/**
 * The runtime's two files. They are shipped as they are, and each address is spelled out whole, because bundlers
 * recognise exactly `new URL('literal', import.meta.url)`; `?no-inline` keeps vite's library mode from pasting them
 * into the script as base64.
 */
const script = (): URL =>
  new URL('../../../../node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs?no-inline', import.meta.url);
const binary = (): URL =>
  new URL(
    '../../../../node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm?no-inline',
    import.meta.url,
  );

interface Instance {
  readonly ort: typeof Ort;
  readonly threads: number;
}

/** Instances whose device was disposed: a module is never unloaded, so they are used again. */
const idle: Instance[] = [];
let loaded = 0;

async function openRuntime({ threads: most = MOST_THREADS, fetch }: WasmOptions): Promise<OnnxRuntime> {
  const shared = canShare();
  const cores = globalThis.navigator?.hardwareConcurrency ?? 1;
  const wanted = shared ? Math.max(1, Math.min(most, cores)) : 1;
  const instance = await start(wanted, fetch).catch((error: unknown) => {
    if (wanted === 1) throw error;
    return start(1, fetch);
  });
  const { ort, threads } = instance;
  return {
    info: {
      kind: 'wasm',
      adapter: `onnxruntime-web ${ort.env.versions.web ?? ''}`.trim(),
      software: false,
      threads,
      // false in pages alone: Node has no such thing
      advice: globalThis.crossOriginIsolated === false && most > 1 && cores > 1 ? ADVICE : null,
    },
    Tensor: ort.Tensor,
    createSession: (model, files) =>
      ort.InferenceSession.create(model, {
        ...SESSION_OPTIONS,
        executionProviders: ['wasm'],
        // errors: what it warns of is how our graphs are made
        logSeverityLevel: 3,
        externalData: [...files].map(([path, data]) => ({ path, data: new Uint8Array(data) })),
      }),
    writesInto: false,
    survives: (error) => !isBroken(error),
    dispose: () => idle.push(instance),
  };
}

/** Whether threads may share memory here. */
function canShare(): boolean {
  if (!globalThis.crossOriginIsolated) return false;
  try {
    new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
    return true;
  } catch {
    return false;
  }
}

/**
 * An instance of the runtime that has memory of its own, and computes.
 * @throws DeviceUnavailableError
 */
async function start(threads: number, fetch: WasmOptions['fetch']): Promise<Instance> {
  const known = idle.findIndex((instance) => instance.threads === threads);
  if (known >= 0) return idle.splice(known, 1)[0]!;
  const address = script();
  // another address is another instance: one that broke down stays broken
  if (loaded++ > 0) address.searchParams.set('instance', String(loaded));
  try {
    const ort = (await import(/* @vite-ignore */ /* webpackIgnore: true */ address.href)) as typeof Ort;
    const { wasm } = ort.env;
    wasm.numThreads = threads;
    wasm.initTimeout = START_LIMIT;
    if (fetch) wasm.wasmBinary = await (await fetch(binary().href)).arrayBuffer();
    else wasm.wasmPaths = { wasm: binary().href };
    const session = await ort.InferenceSession.create(serialize(smallest()), {
      executionProviders: ['wasm'],
    });
    await session.release();
    return { ort, threads };
  } catch (error) {
    throw new DeviceUnavailableError(
      `ONNX Runtime cannot be started from ${address.href} and ${binary().href}. Serve the files of this package beside its scripts, and let the page run WebAssembly.`,
      { cause: error },
    );
  }
}

/** A graph that shows that the runtime has started. */
function smallest(): Graph {
  const graph = new Graph('start');
  graph.output('y', graph.input('x', 'f32', [1]), [1]);
  return graph;
}

/** Whether an error left the instance in pieces: a trap, an abort, or an exception of C++ that nobody caught. */
const isBroken = (error: unknown): boolean =>
  error instanceof WebAssembly.RuntimeError || typeof error === 'number' || /abort/i.test(String(error));
