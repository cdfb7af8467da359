/** What is saved outlives the page: reloaded, and beside another tab, in a real browser with its real storage. */
import { fileURLToPath } from 'node:url';
import { chromium, type Browser, type BrowserContext, type Page } from 'playwright';
import { createServer, type ViteDevServer } from 'vite';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { browserArgs, findBrowser } from '../../scripts/find-browser.mjs';
import type { ResumePage } from './pages/resume';

const root = fileURLToPath(new URL('../..', import.meta.url));

let server: ViteDevServer;
let browser: Browser;
let context: BrowserContext;

beforeAll(async () => {
  server = await createServer({
    root,
    configFile: `${root}/vite.config.ts`,
    cacheDir: `${root}/node_modules/.vite-reload-test`,
    logLevel: 'warn',
    server: { port: 0, watch: null, hmr: false },
  });
  await server.listen();
  browser = await chromium.launch({ executablePath: findBrowser(), args: browserArgs() });
  context = await browser.newContext();
});
afterAll(async () => {
  await browser?.close();
  await server?.close();
});

async function open(): Promise<Page> {
  const page = await context.newPage();
  page.setDefaultTimeout(120_000);
  await page.goto(`${server.resolvedUrls!.local[0]!}test/node/pages/resume.html`);
  await ready(page);
  return page;
}

const ready = (page: Page): Promise<unknown> => page.waitForFunction('globalThis.resumePage');

/** Calls a function of the page's `resumePage`. */
function ask<K extends keyof ResumePage>(
  page: Page,
  method: K,
  ...args: Parameters<ResumePage[K]>
): ReturnType<ResumePage[K]> {
  const call = `resumePage.${method}(${args.map((arg) => JSON.stringify(arg)).join(', ')})`;
  return page.evaluate(call) as ReturnType<ResumePage[K]>;
}

test('a reloaded page goes on bit for bit', async () => {
  const page = await open();
  const { path, ...continuation } = await ask(page, 'start');
  expect(new Set(continuation.losses).size).toBe(10);
  await page.reload();
  await ready(page);
  expect(await ask(page, 'paths')).toContain(path);
  expect(await ask(page, 'resume', path)).toEqual(continuation);
  await page.close();
});

test('two tabs share what either saves', async () => {
  const [one, two] = [await open(), await open()];
  const paths = await Promise.all([ask(one, 'saveSampler', 'same'), ask(two, 'saveSampler', 'same')]);
  expect(paths[0]).not.toBe(paths[1]);
  for (const tab of [one, two]) expect(await ask(tab, 'paths')).toEqual(expect.arrayContaining(paths));
  const logprobs = await ask(one, 'sample', paths[1]);
  expect(await ask(two, 'sample', paths[0])).toEqual(logprobs);
  await one.close();
  expect(await ask(two, 'sample', paths[0])).toEqual(logprobs);
  await ask(two, 'delete', paths[0]);
  expect(await ask(two, 'paths')).not.toContain(paths[0]);
  expect(await ask(two, 'error', paths[0].replace('sampler_weights', 'weights'))).toBe('NotFoundError');
  await two.close();
});
