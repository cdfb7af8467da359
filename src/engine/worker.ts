/** The engine in a Web Worker. */
import { Catalog } from '../checkpoints/catalog';
import { OpfsStore } from '../checkpoints/opfs-store';
import { webgpuOpener } from './devices/webgpu/webgpu-device';
import { Engine } from './engine';
import { serve } from './rpc';

serve(({ device }) =>
  Engine.create({
    devices: [webgpuOpener()],
    device,
    storage: { kind: 'opfs', open: async () => Catalog.open(await OpfsStore.open()) },
  }),
);
