/** The engine in a Web Worker. */
import type { Endpoint } from 'comlink';
import { Engine } from './engine';
import { announceLife, serve } from './rpc';

serve(() => Engine.create({}), globalThis as unknown as Endpoint);
announceLife();
