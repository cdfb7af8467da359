/** The engine in a Web Worker. */
import { Catalog } from '../checkpoints/catalog';
import { OpfsStore } from '../checkpoints/opfs-store';
import { Engine } from './engine';
import { serve } from './rpc';

serve(() =>
  Engine.create({ storage: { kind: 'opfs', open: async () => Catalog.open(await OpfsStore.open()) } }),
);
