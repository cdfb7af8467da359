/**
 * `npm run example [NAME]` (default pig-latin): runs examples/NAME.ts in a real,
 * headless browser and prints what it logs.
 */
import { fileURLToPath } from 'node:url';
import { ensureInstalled } from './ensure-installed.mjs';

ensureInstalled();
const { chromium } = await import('playwright');
const { createServer } = await import('vite');
const { browserArgs, findBrowser } = await import('./find-browser.mjs');

const name = process.argv[2] ?? 'pig-latin';
const server = await createServer({
  root: fileURLToPath(new URL('..', import.meta.url)),
  configFile: false,
  cacheDir: 'node_modules/.vite-examples',
  logLevel: 'warn',
  worker: { format: 'es' },
  server: { port: 0, watch: null, hmr: false },
});
let browser;
let problem;
try {
  await server.listen();
  browser = await chromium.launch({ executablePath: findBrowser(), args: browserArgs() });
  const page = await browser.newPage();
  page.on('console', (message) => {
    if (message.type() !== 'debug') console.log(message.text());
  });
  const ended = new Promise((resolve) => {
    page.on('pageerror', (error) => resolve(String(error)));
    page.on('crash', () => resolve('the page crashed'));
    void page.exposeFunction('exampleEnded', resolve);
  });
  await page.goto(`${server.resolvedUrls.local[0]}examples/?name=${encodeURIComponent(name)}`);
  problem = await ended;
} catch (error) {
  problem = error.message;
  console.error(problem);
} finally {
  await browser?.close();
  await server.close();
}
process.exit(problem ? 1 : 0);
