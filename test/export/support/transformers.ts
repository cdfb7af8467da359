/** transformers.js in the page, loading exported models from memory: nothing is asked of the network. */
import { env } from '@huggingface/transformers';
import wasm from 'onnxruntime-web/ort-wasm-simd-threaded.asyncify.wasm?url';

const models = new Map<string, ReadonlyMap<string, Blob>>();

env.allowLocalModels = true;
env.allowRemoteModels = false;
env.useBrowserCache = false;
env.useWasmCache = false;
env.localModelPath = 'exported:';
env.fetch = async (input: string | URL) => {
  const [, name, path] = /^exported:\/([^/]+)\/(.*)$/.exec(String(input)) ?? [];
  const blob = models.get(name ?? '')?.get(path ?? '');
  return blob ? new Response(blob) : new Response(null, { status: 404 });
};
Object.assign(env.backends.onnx.wasm!, { wasmPaths: { wasm }, numThreads: 1 });

/** Makes a model known. @returns the name to load it by */
export function serveModel(files: ReadonlyMap<string, Blob>): string {
  const name = `model-${models.size}`;
  models.set(name, files);
  return name;
}
