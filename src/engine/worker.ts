/** The engine in a Web Worker. */
import { Catalog } from '../checkpoints/catalog';
import { OpfsStore } from '../checkpoints/opfs-store';
import type { DeviceOpener } from './devices/device';
import { webgpuOpener } from './devices/webgpu/webgpu-device';
import { Engine } from './engine';
import { serve } from './rpc';

/** Loaded by those alone who compute on it. */
const wasm: DeviceOpener = {
  kind: 'wasm',
  open: async () => (await import('./devices/onnx/wasm')).wasmOpener().open(),
};

serve(({ device }) =>
  Engine.create({
    devices: [webgpuOpener(), wasm],
    device,
    storage: { kind: 'opfs', open: async () => Catalog.open(await OpfsStore.open()) },
  }),
);
