/** The engine in a worker thread. */
import nodeEndpoint from 'comlink/dist/esm/node-adapter';
import { parentPort } from 'node:worker_threads';
import { nativeOpener } from '../engine/devices/onnx/native';
import { wasmOpener } from '../engine/devices/onnx/wasm';
import { Engine } from '../engine/engine';
import type { EngineSetup } from '../engine/host';
import { serve } from '../engine/rpc';
import { inMemory } from './blobs';
import { END } from './end';
import { fetchAny, loadAnyModel } from './models';
import { folderStorage } from './storage';
import { nodeWebgpuOpener } from './webgpu';

const port = parentPort!;

async function open({ device, store }: EngineSetup): Promise<Engine> {
  const engine = await Engine.create({
    devices: [nodeWebgpuOpener, nativeOpener(), wasmOpener({ fetch: fetchAny })],
    device,
    resolveModel: loadAnyModel,
    fetch: fetchAny,
    storage: folderStorage(store),
  });
  const getArchive = engine.getCheckpointArchive.bind(engine);
  engine.getCheckpointArchive = async (path) => {
    const archive = await getArchive(path);
    return archive.kind === 'blob' ? { ...archive, blob: await inMemory(archive.blob) } : archive;
  };
  return engine;
}

const opened = serve(open, nodeEndpoint(port));

/** Lets what is being filed get to the disk. */
async function end(): Promise<void> {
  const engine = await opened()?.catch(() => undefined);
  await engine?.dispose();
  process.exit();
}

port.on('message', (message) => {
  if (message === END) void end();
});
