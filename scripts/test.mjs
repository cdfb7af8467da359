/**
 * `npm test`: installs what is missing, finds a browser, checks that it has
 * WebGPU, runs every test and ends with the line `N passed, N failed`.
 * Further arguments go to vitest: `npm test -- --project browser test/kernels`.
 */
import { ensureInstalled } from './ensure-installed.mjs';

ensureInstalled();
const { browserArgs, findBrowser } = await import('./find-browser.mjs');
const { chromium } = await import('playwright');
const { parseCLI, startVitest } = await import('vitest/node');

function fail(message) {
  console.error(message);
  process.exit(1);
}

/** The adapter in words, or undefined when the browser offers none. */
async function adapterOf(executablePath) {
  const browser = await chromium.launch({ executablePath, args: browserArgs() });
  try {
    const page = await browser.newPage();
    // WebGPU exists in secure contexts only
    await page.route('https://preflight.test/', (route) =>
      route.fulfill({ body: '', contentType: 'text/html' }),
    );
    await page.goto('https://preflight.test/');
    return await page.evaluate(async () => {
      const adapter = await globalThis.navigator.gpu?.requestAdapter();
      return adapter && `${adapter.info.vendor} ${adapter.info.architecture}`;
    });
  } finally {
    await browser.close();
  }
}

const { filter, options } = parseCLI(['vitest', 'run', ...process.argv.slice(2)]);
let executablePath;
try {
  executablePath = findBrowser();
} catch (error) {
  fail(error.message);
}
const adapter = await adapterOf(executablePath).catch((error) =>
  fail(`${executablePath} does not start: ${error.message.split('\n')[0]}`),
);
if (!adapter)
  fail(`${executablePath} offers no WebGPU adapter: update it, or set WEBTINKER_BROWSER to another.`);
console.log(`Browser: ${executablePath}, WebGPU adapter: ${adapter}`);

const vitest = await startVitest('test', filter, { ...options, watch: false, run: true });
const modules = vitest.state.getTestModules();
const tests = modules.flatMap((module) => [...module.children.allTests()]);
const count = (state) => tests.filter((test) => test.result().state === state).length;
// a file that cannot be loaded has no tests to count, and is a failure
const broken = modules.filter((module) => module.errors().length > 0).length;
const passed = count('passed');
const failed = count('failed') + broken + vitest.state.getUnhandledErrors().length;
const left = tests.length - passed - count('failed');
await vitest.close();

// a name filter leaves the others out on purpose
const skipped = left > 0 && !options.testNamePattern;
if (skipped) console.error(`${left} tests were skipped; every test must run.`);
if (tests.length === 0) console.error('No tests ran.');
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed > 0 || skipped || passed === 0 ? 1 : 0);
