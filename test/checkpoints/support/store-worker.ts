/** A tab of its own: files of OPFS can be written in workers only. */
import * as Comlink from 'comlink';
import { MemoryStore } from '../../../src/checkpoints/memory-store';
import { OpfsStore } from '../../../src/checkpoints/opfs-store';
import type { Store } from '../../../src/checkpoints/store';
import { storeContract } from '../store-contract';

const kinds: Record<'opfs' | 'memory', () => () => Promise<Store>> = {
  opfs: () => {
    const name = `test-${crypto.randomUUID()}`;
    return () => OpfsStore.open({ name });
  },
  memory: () => {
    const store = new MemoryStore();
    return async () => store;
  },
};

const calls = {
  /** Runs a case of the contract on a new store. */
  runCase: (kind: keyof typeof kinds, name: string): Promise<void> => storeContract[name]!(kinds[kind]()),
};

export type StoreWorker = typeof calls;
Comlink.expose(calls);
