/**
 * `npm run bench`: serves the benchmark page, runs every benchmark in headless Chromium and prints a table.
 *
 *   --only NAME      one benchmark
 *   --filter TEXT    only parts whose name contains TEXT
 *   --rounds N       timed rounds per subject (default 7)
 *   --json           one JSON line per row instead of the table
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { fileURLToPath, URLSearchParams } from 'node:url';
import { chromium } from 'playwright';
import { createServer } from 'vite';
import { measureColdStart } from '../bench/cold-start.mjs';
import { measureSize } from '../bench/size.mjs';
import { browserArgs, findBrowser } from './find-browser.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));

/** In the order of the table. `profile` runs only when asked for. */
const BENCHES = [
  'matmul',
  'train-step',
  'first-step',
  'cold-start',
  'sample',
  'wasm-step',
  'node-step',
  'node-decode',
  'size',
];
/** These run in Node. */
const IN_NODE = { 'node-step': 'step', 'node-decode': 'decode' };
const ON_REQUEST = ['profile'];

const { values: options } = parseArgs({
  options: {
    only: { type: 'string' },
    filter: { type: 'string', default: '' },
    rounds: { type: 'string', default: '7' },
    json: { type: 'boolean', default: false },
  },
});

const say = (text) => process.stderr.write(`${text}\n`);

/** Serves the repository; isolated, so that performance.now() is precise and jax-js may use threads. */
async function serve() {
  const server = await createServer({
    root,
    configFile: false,
    cacheDir: 'node_modules/.vite-bench',
    logLevel: 'warn',
    server: {
      port: 0,
      host: '127.0.0.1',
      hmr: false,
      watch: null,
      headers: {
        'Cross-Origin-Opener-Policy': 'same-origin',
        'Cross-Origin-Embedder-Policy': 'require-corp',
      },
    },
    worker: { format: 'es' },
    optimizeDeps: {
      include: [
        '@jax-js/jax',
        '@huggingface/transformers',
        'comlink',
        '@bufbuild/protobuf',
        '@bufbuild/protobuf/codegenv2',
      ],
      entries: ['bench/index.html'],
    },
  });
  await server.listen();
  return server;
}

/** Runs one benchmark in a page (and browser) of its own, so that none meets another's caches. */
async function runInPage(url, bench, onRow) {
  const browser = await chromium.launch({
    executablePath: findBrowser(),
    args: browserArgs(),
    headless: true,
  });
  try {
    const page = await browser.newPage();
    await page.exposeFunction('benchRow', onRow);
    await page.exposeFunction('benchProgress', (text) => say(`  ${text}`));
    page.on('console', (message) => {
      if (message.type() === 'error' || message.type() === 'warning') say(`  [page] ${message.text()}`);
    });
    page.on('pageerror', (error) => say(`  [page] ${error.stack ?? error.message}`));
    const query = new URLSearchParams({ bench, rounds: options.rounds, filter: options.filter });
    await page.goto(`${url}bench/index.html?${query}`);
    await page.waitForFunction('window.benchDone !== undefined', undefined, { timeout: 0, polling: 500 });
    const failure = await page.evaluate('window.benchDone');
    if (failure) throw new Error(failure);
  } finally {
    await browser.close();
  }
}

/** Runs one benchmark in a process of its own, so that its memory can be told. */
async function runInNode(name, onRow) {
  const script = fileURLToPath(new URL('bench-node.mjs', import.meta.url));
  const child = spawn(process.execPath, [script, name, options.rounds, options.filter], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(child, 'exit');
  for await (const line of createInterface({ input: child.stdout })) onRow(JSON.parse(line));
  const [code] = await ended;
  if (code !== 0) throw new Error(`its process ended with ${code}`);
}

function format(value) {
  if (Number.isInteger(value)) return value.toLocaleString('en-US');
  if (Math.abs(value) >= 100) return value.toFixed(0);
  return value.toPrecision(3);
}

function printTable(rows) {
  const header = ['bench', 'subject', 'value', 'unit', 'better'];
  const cells = rows.map((r) => [r.bench, r.subject, format(r.value), r.unit, r.better]);
  const widths = header.map((h, i) => Math.max(h.length, ...cells.map((c) => c[i].length)));
  const line = (c) =>
    c.map((text, i) => (i === 2 ? text.padStart(widths[i]) : text.padEnd(widths[i]))).join('  ');
  const devices = [...new Set(rows.map((r) => r.device))];
  console.log(`device: ${devices.join(', ')}\n`);
  console.log(line(header).trimEnd());
  console.log(widths.map((w) => '-'.repeat(w)).join('  '));
  for (const c of cells) console.log(line(c).trimEnd());
}

async function main() {
  const known = [...BENCHES, ...ON_REQUEST];
  if (options.only !== undefined && !known.includes(options.only)) {
    throw new Error(`no benchmark '${options.only}'; there are: ${known.join(', ')}`);
  }
  const rows = [];
  const onRow = (row) => {
    rows.push(row);
    if (options.json) console.log(JSON.stringify(row));
  };
  const failures = [];
  const server = await serve();
  try {
    const url = server.resolvedUrls.local[0];
    for (const bench of options.only === undefined ? BENCHES : [options.only]) {
      say(`${bench} …`);
      try {
        if (bench === 'size') await measureSize(root, onRow);
        else if (bench === 'cold-start') measureColdStart(root, Number(options.rounds), onRow);
        else if (bench in IN_NODE) await runInNode(IN_NODE[bench], onRow);
        else await runInPage(url, bench, onRow);
      } catch (error) {
        failures.push(bench);
        say(`${bench} failed: ${error.message}`);
      }
    }
  } finally {
    await server.close();
  }
  if (!options.json && rows.length > 0) printTable(rows);
  if (failures.length > 0) throw new Error(`failed: ${failures.join(', ')}`);
}

try {
  await main();
  process.exit(0);
} catch (error) {
  say(error.message);
  process.exit(1);
}
