/** Node's platform: engines in worker threads, for ONNX Runtime blocks the thread that it computes in. */
import nodeEndpoint from 'comlink/dist/esm/node-adapter';
import { Worker } from 'node:worker_threads';
import type { EngineHost, Platform } from '../engine/host';
import { inMemory } from './blobs';
import { END } from './end';

/** Lies beside the built entry. */
const SCRIPT = new URL(/* @vite-ignore */ './engine-worker.js', import.meta.url);

/** How long a thread may take to put away what it has in hand, ms. */
const GRACE_MS = 2000;

/** A thread that was just started and runs `worker.ts`, as the client's side sees it. */
export function threadHost(worker: Worker): EngineHost {
  const exited = new Promise<void>((done) => worker.once('exit', () => done()));
  // a program that waits for nothing ends
  worker.unref();
  return {
    endpoint: nodeEndpoint(worker),
    watch: (onDeath) => {
      worker.on('error', (error: Error) => onDeath(error.message));
      worker.on('messageerror', () => onDeath('a message could not be decoded'));
      worker.on('exit', (code) => onDeath(`it ended with exit code ${code}`));
    },
    waiting: (some) => (some ? worker.ref() : worker.unref()),
    readable: inMemory,
    terminate: async () => {
      worker.ref();
      worker.postMessage(END);
      const late = setTimeout(() => void worker.terminate(), GRACE_MS);
      await exited;
      clearTimeout(late);
    },
  };
}

export const NODE: Platform = {
  // a thread needs none of the flags that the program runs with, such as loaders of TypeScript
  start: () => threadHost(new Worker(SCRIPT, { name: 'webtinker', execArgv: [] })),
  folders: true,
};
