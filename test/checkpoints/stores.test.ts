/** The contract of stores, on those that browsers have, in a worker as the engine's is. */
import * as Comlink from 'comlink';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { storeContract } from './store-contract';
import type { StoreWorker } from './support/store-worker';

let worker: Worker;
let tab: Comlink.Remote<StoreWorker>;
beforeAll(() => {
  worker = new Worker(new URL('./support/store-worker.ts', import.meta.url), { type: 'module' });
  tab = Comlink.wrap<StoreWorker>(worker);
});
afterAll(() => worker.terminate());

describe.each(Object.keys(storeContract))('%s', (name) => {
  test('in OPFS and IndexedDB', () => tab.runCase('opfs', name));
  test('in memory', () => tab.runCase('memory', name));
});

describe('a store in use', () => {
  test('goes on after the data of the site were cleared', async () => {
    expect(await tab.saveAfterClearing()).toEqual({ visible: 1, folders: 1 });
  });

  test('lets another tab have a later version, and says so', async () => {
    const error = await tab.saveAfterUpgrade();
    expect(error).toMatchObject({ name: 'StorageError' });
    expect(error!.message).toContain('reload this page');
  });
});
