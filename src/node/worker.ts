/** The engine in a worker thread. */
import nodeEndpoint from 'comlink/dist/esm/node-adapter';
import { parentPort } from 'node:worker_threads';
import { nativeOpener } from '../engine/devices/onnx/native';
import { wasmOpener } from '../engine/devices/onnx/wasm';
import { Engine } from '../engine/engine';
import { serve } from '../engine/rpc';
import { END } from './end';
import { fetchAny, loadAnyModel } from './models';
import { folderStorage } from './storage';
import { nodeWebgpuOpener } from './webgpu';

const port = parentPort!;

const wasm = wasmOpener({
  readFile: async (address) => new Uint8Array(await (await fetchAny(address)).arrayBuffer()),
});

const opened = serve(
  ({ device, store }) =>
    Engine.create({
      devices: [nodeWebgpuOpener, nativeOpener(), wasm],
      device,
      resolveModel: loadAnyModel,
      fetch: fetchAny,
      storage: folderStorage(store),
    }),
  nodeEndpoint(port),
);

/** Lets what is being filed get to the disk. */
async function end(): Promise<void> {
  const engine = await opened()?.catch(() => undefined);
  await engine?.dispose();
  process.exit();
}

port.on('message', (message) => {
  if (message === END) void end();
});
