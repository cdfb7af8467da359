/** The browser's GPU process ends in the midst of a run, as a driver that is reset would end it. */
import { fileURLToPath } from 'node:url';
import { chromium, type Browser } from 'playwright';
import { createServer, type ViteDevServer } from 'vite';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { browserArgs, findBrowser } from '../../scripts/find-browser.mjs';
import type { GpuCrashPage } from './pages/gpu-crash';

declare const gpuCrashPage: GpuCrashPage;

const root = fileURLToPath(new URL('../..', import.meta.url));

let server: ViteDevServer;
let browser: Browser;

beforeAll(async () => {
  server = await createServer({
    root,
    configFile: `${root}/vite.config.ts`,
    cacheDir: `${root}/node_modules/.vite-gpu-crash-test`,
    logLevel: 'warn',
    server: { port: 0, watch: null, hmr: false },
  });
  await server.listen();
  browser = await chromium.launch({ executablePath: findBrowser(), args: browserArgs() });
});
afterAll(async () => {
  await browser?.close();
  await server?.close();
});

test('training and sampling go on as if nothing had happened', async () => {
  const page = await browser.newPage();
  page.setDefaultTimeout(120_000);
  await page.goto(`${server.resolvedUrls!.local[0]!}test/node/pages/gpu-crash.html`);
  await page.waitForFunction('globalThis.gpuCrashPage');
  const expected = await page.evaluate(() => gpuCrashPage.train(12));

  const running = page.evaluate(() => gpuCrashPage.train(12));
  await page.waitForFunction(() => gpuCrashPage.steps() >= 4 && gpuCrashPage.steps() < 12);
  const devtools = await browser.newBrowserCDPSession();
  await devtools.send('Browser.crashGpuProcess');
  expect(await running).toEqual(expected);

  const { recoveries, device } = await page.evaluate(() => gpuCrashPage.stats());
  expect(device.kind).toBe('webgpu');
  expect(recoveries).toHaveLength(1);
  expect(recoveries[0]).toMatchObject({ from: 'webgpu', to: 'webgpu' });
});
