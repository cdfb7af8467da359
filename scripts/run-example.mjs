/**
 * `npm run example NAME [ARGUMENT …]`: runs examples/NAME.ts in a real, headless
 * browser and prints what it logs. Without a name it lists the examples.
 */
import { readFileSync, readdirSync } from 'node:fs';
import { URLSearchParams, fileURLToPath } from 'node:url';
import { ensureInstalled } from './ensure-installed.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const names = readdirSync(`${root}/examples`)
  .filter((file) => file.endsWith('.ts') && file !== 'page.ts')
  .map((file) => file.slice(0, -'.ts'.length));

/** Each example opens with a comment: what it shows, a colon, and how it is run in backquotes. */
function listExamples() {
  const about = names.map((name) => {
    const [, what, how] = readFileSync(`${root}/examples/${name}.ts`, 'utf8').match(
      /\/\*\*\s*(?:\* )?(.*?): `(.*?)`/s,
    );
    return { what: what.replaceAll(/\s+(\* )?/g, ' '), how };
  });
  const width = Math.max(...about.map(({ how }) => how.length));
  return about.map(({ what, how }) => `  ${how.padEnd(width)}  ${what}`).join('\n');
}

const [name, ...args] = process.argv.slice(2);
if (name === undefined) {
  console.log(`Examples, from examples/:\n\n${listExamples()}\n`);
  process.exit();
}
if (!names.includes(name)) {
  console.error(`There is no example "${name}". There are:\n\n${listExamples()}\n`);
  process.exit(1);
}

ensureInstalled();
const { chromium } = await import('playwright');
const { createServer } = await import('vite');
const { browserArgs, findBrowser } = await import('./find-browser.mjs');

const server = await createServer({
  root,
  configFile: false,
  cacheDir: 'node_modules/.vite-examples',
  logLevel: 'warn',
  worker: { format: 'es' },
  // bundled at start: found later they would reload the page
  optimizeDeps: {
    entries: ['examples/index.html'],
    include: [
      'comlink',
      '@huggingface/tokenizers',
      '@huggingface/transformers',
      'idb',
      'modern-tar',
      '@jax-js/jax',
    ],
  },
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
  const query = new URLSearchParams([['name', name], ...args.map((arg) => ['arg', arg])]);
  await page.goto(`${server.resolvedUrls.local[0]}examples/?${query}`);
  problem = await ended;
} catch (error) {
  problem = error.message;
  console.error(problem);
} finally {
  await browser?.close();
  await server.close();
}
process.exit(problem ? 1 : 0);
