/** A quota that the browser itself enforces. */
import * as Comlink from 'comlink';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { cdp } from 'vitest/browser';
import type { StoreWorker } from './support/store-worker';

/** The part of Chromium's protocol that is used here. */
interface Protocol {
  send(
    method: 'Storage.overrideQuotaForOrigin',
    params: { origin: string; quotaSize?: number },
  ): Promise<unknown>;
}

let worker: Worker;
let tab: Comlink.Remote<StoreWorker>;
beforeEach(() => {
  worker = new Worker(new URL('./support/store-worker.ts', import.meta.url), { type: 'module' });
  tab = Comlink.wrap<StoreWorker>(worker);
});
afterEach(async () => {
  worker.terminate();
  await setQuota(undefined);
});

/** @param bytes undefined: the browser's own */
const setQuota = (bytes: number | undefined): Promise<unknown> =>
  (cdp() as unknown as Protocol).send('Storage.overrideQuotaForOrigin', {
    origin: location.origin,
    ...(bytes !== undefined && { quotaSize: bytes }),
  });

test('a checkpoint over the quota is a typed error, and leaves what there was', async () => {
  const name = `test-${crypto.randomUUID()}`;
  expect(await tab.trySave(name, 1, 2)).toBeUndefined();
  const used = (await navigator.storage.estimate()).usage!;
  await setQuota(used + 100_000);
  // (6, r), (r, 6) … of three linears, three times: about 1.9 MB
  const refused = await tab.trySave(name, 2, 2 ** 12);
  expect(refused).toMatchObject({ name: 'StorageFullError', cause: { name: 'QuotaExceededError' } });
  expect(await tab.tryLoad(name, 1), 'folders').toBe(1);
  await setQuota(undefined);
  expect(await tab.trySave(name, 2, 2 ** 12)).toBeUndefined();
  expect(await tab.tryLoad(name, 1), 'folders').toBe(2);
});

test('what makes room works where there is none', async () => {
  const name = `test-${crypto.randomUUID()}`;
  for (const seed of [1, 2]) expect(await tab.trySave(name, seed, 2)).toBeUndefined();
  await setQuota(1);
  expect(await tab.trySave(name, 3, 2)).toMatchObject({ name: 'StorageFullError' });
  expect(await tab.tryDelete(name, 2)).toBeUndefined();
  expect(await tab.tryLoad(name, 1), 'folders').toBe(1);
});

test('what the browser says of its space is passed on', async () => {
  const name = `test-${crypto.randomUUID()}`;
  await tab.trySave(name, 1, 2);
  const { kind, bytes, runs, estimate, persisted } = await tab.usage(name);
  expect({ kind, runs: runs.length, persisted }).toEqual({
    kind: 'opfs',
    runs: 1,
    persisted: await navigator.storage.persisted(),
  });
  expect(runs[0]!.bytes).toBe(bytes);
  expect(estimate!.usage).toBeGreaterThanOrEqual(bytes);
  expect(estimate!.quota).toBeGreaterThan(estimate!.usage);
});
