/** The engine in a Web Worker. */
import { Engine } from './engine';
import { serve } from './rpc';

serve(() => Engine.create({}));
