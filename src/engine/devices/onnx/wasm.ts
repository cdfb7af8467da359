/** ONNX Runtime as WebAssembly: the package onnxruntime-web, in any browser and in Node. */
import type * as Ort from 'onnxruntime-web/wasm';
import { DeviceUnavailableError } from '../../../api/contract/errors';
import type { DeviceOpener } from '../device';
import { OnnxDevice } from './device';
import type { OnnxRuntime } from './runtime';

export interface WasmOptions {
  /** Most threads; default: as many as the processor has cores. One where memory cannot be shared. */
  readonly threads?: number;
  /** reads a file of this package; given in Node, whose `fetch` does not, and where this build has one thread only */
  readonly readFile?: (address: URL) => Promise<Uint8Array>;
}

/** Threads beyond which a step of the models that fit here gains nothing. */
const MOST_THREADS = 8;

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

/** Instances whose device was disposed: a module is never unloaded, so they are used again. */
const idle: (typeof Ort)[] = [];
let loaded = 0;

/** An instance of the runtime with memory of its own. */
async function loadRuntime(): Promise<typeof Ort> {
  const known = idle.pop();
  if (known) return known;
  const address = script();
  // another address is another instance: one that broke down stays broken
  if (loaded++ > 0) address.searchParams.set('instance', String(loaded));
  try {
    return (await import(/* @vite-ignore */ /* webpackIgnore: true */ address.href)) as typeof Ort;
  } catch (error) {
    throw new DeviceUnavailableError(
      `ONNX Runtime cannot be loaded from ${address.href}. Serve the files of this package beside its scripts.`,
      { cause: error },
    );
  }
}

/** How to get more threads. */
const ADVICE = {
  page: 'This page may use one thread only. To allow more, serve it with the headers `Cross-Origin-Opener-Policy: same-origin` and `Cross-Origin-Embedder-Policy: require-corp`.',
  node: 'WebAssembly computes on one thread in Node; with the package onnxruntime-node, native code computes on all.',
};

async function openRuntime({ threads: most = MOST_THREADS, readFile }: WasmOptions): Promise<OnnxRuntime> {
  const ort = await loadRuntime();
  const shared = globalThis.crossOriginIsolated;
  const cores = globalThis.navigator?.hardwareConcurrency ?? 1;
  const threads = shared ? Math.max(1, Math.min(most, cores)) : 1;
  const { env, InferenceSession, Tensor } = ort;
  env.wasm.numThreads = threads;
  if (readFile) env.wasm.wasmBinary = await readFile(binary());
  else env.wasm.wasmPaths = { wasm: binary().href };
  return {
    info: {
      kind: 'wasm',
      adapter: `onnxruntime-web ${env.versions.web ?? ''}`.trim(),
      software: false,
      threads,
      advice: shared || most === 1 ? null : ADVICE[readFile ? 'node' : 'page'],
    },
    Tensor,
    createSession: (model, files) =>
      InferenceSession.create(model, {
        executionProviders: ['wasm'],
        // errors: what it warns of is how graphs of ours are made
        logSeverityLevel: 3,
        externalData: [...files].map(([path, data]) => ({ path, data: new Uint8Array(data) })),
      }),
    writesInto: false,
    copiesInputs: true,
    survives: (error) => !broken(error),
  };
}

/** Whether an error left the instance in pieces: a trap, an abort, or an exception of C++ that nobody caught. */
const broken = (error: unknown): boolean =>
  error instanceof WebAssembly.RuntimeError || typeof error === 'number' || /abort/i.test(String(error));
