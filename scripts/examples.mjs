/** What is in examples/, and a browser to run it in. */
import { readFileSync, readdirSync } from 'node:fs';
import { URLSearchParams, fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

/** Names of the examples, of which examples/NAME.ts is the code. */
export const EXAMPLES = readdirSync(`${root}/examples`)
  .filter((file) => file.endsWith('.ts') && file !== 'page.ts')
  .map((file) => file.slice(0, -'.ts'.length));

/** A line each. Every example opens with a comment: what it shows, a colon, and how it is run in backquotes. */
export function listExamples() {
  const about = EXAMPLES.map((name) => {
    const code = readFileSync(`${root}/examples/${name}.ts`, 'utf8');
    const [, what, how] = code.match(/^\/\*\*\s*(?:\* )?(.*?): `(.*?)`/s);
    return { what: what.replaceAll(/\s+(\* )?/g, ' '), how };
  });
  const width = Math.max(...about.map(({ how }) => how.length));
  return about.map(({ what, how }) => `  ${how.padEnd(width)}  ${what}`).join('\n');
}

/**
 * Starts a server of the examples and a headless browser.
 * `run` resolves with what went wrong, or null; it hands on what the example logs.
 */
export async function openExamples() {
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
        '@bufbuild/protobuf',
        '@bufbuild/protobuf/codegenv2',
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
  const close = async () => {
    await browser?.close();
    await server.close();
  };
  try {
    await server.listen();
    browser = await chromium.launch({ executablePath: findBrowser(), args: browserArgs() });
  } catch (error) {
    await close();
    throw error;
  }

  async function run(name, args, onLine) {
    const page = await browser.newPage();
    page.on('console', (message) => {
      if (message.type() !== 'debug') onLine(message.text());
    });
    const ended = new Promise((resolve) => {
      page.on('pageerror', (error) => resolve(String(error)));
      page.on('crash', () => resolve('the page crashed'));
      void page.exposeFunction('exampleEnded', resolve);
    });
    const query = new URLSearchParams([['name', name], ...args.map((arg) => ['arg', arg])]);
    await page.goto(`${server.resolvedUrls.local[0]}examples/?${query}`);
    const problem = await ended;
    await page.close();
    return problem;
  }
  return { run, close };
}
