/** The demo, driven as a user would, in a real browser; and the example script. Screenshots: test-artifacts/. */
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { chromium, type Browser, type Page } from 'playwright';
import { createServer, type ViteDevServer } from 'vite';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { browserArgs, findBrowser } from '../../scripts/find-browser.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const artifacts = `${root}/test-artifacts`;
const WEBGPU_ARGS = [
  '--enable-unsafe-webgpu',
  '--enable-features=Vulkan',
  '--use-webgpu-adapter=swiftshader',
];

let server: ViteDevServer;
let address: string;
let browser: Browser;

beforeAll(async () => {
  mkdirSync(artifacts, { recursive: true });
  server = await createServer({
    configFile: `${root}/demo/vite.config.ts`,
    cacheDir: `${root}/node_modules/.vite-demo-test`,
    logLevel: 'warn',
    server: { port: 0, watch: null, hmr: false },
  });
  await server.listen();
  address = server.resolvedUrls!.local[0]!;
  browser = await chromium.launch({ executablePath: findBrowser(), args: browserArgs() });
});

afterAll(async () => {
  await browser.close();
  await server.close();
});

/** A page of the demo, and what its console complained about. */
async function open(search: string, from = browser): Promise<{ page: Page; complaints: string[] }> {
  const page = await from.newPage({ viewport: { width: 1280, height: 1000 } });
  page.setDefaultTimeout(120_000);
  const complaints: string[] = [];
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) complaints.push(message.text());
  });
  await page.goto(address + search);
  return { page, complaints };
}

const text = (page: Page, id: string) => page.locator(`#${id}`).innerText();
const stepOf = async (page: Page) => Number((await text(page, 'step')).split('/')[0]);
const scored = (page: Page, column: string) =>
  page
    .getByText(/^\d\/8$/)
    .and(page.locator(`#${column}-score`))
    .waitFor();
const shot = (page: Page, name: string) =>
  page.screenshot({ path: `${artifacts}/${name}.png`, fullPage: true });

describe('the demo', () => {
  test('trains, shows the loss falling, and says all seven examples afterwards', async () => {
    const { page, complaints } = await open('?steps=20');
    await scored(page, 'before');
    expect(await text(page, 'model-card')).toContain('webtinker/pocket');
    expect(await page.locator('.datum').count()).toBe(7);
    expect(await page.locator('td.target.on').count()).toBeGreaterThan(100);
    expect(await text(page, 'before-score')).toBe('0/8');
    await shot(page, 'demo-before');

    await page.getByRole('button', { name: 'Train' }).click();
    await page.waitForFunction(() => document.querySelector('#step')?.textContent.startsWith('1 '));
    const first = Number(await text(page, 'loss'));
    await page.waitForFunction(() => document.querySelector('#step')?.textContent.startsWith('10 '));
    await shot(page, 'demo-training');
    await scored(page, 'after');
    expect(await text(page, 'step')).toBe('20 / 20');
    expect(first).toBeGreaterThan(1);
    expect(Number(await text(page, 'loss'))).toBeLessThan(0.1);
    expect(Number((await text(page, 'after-score')).split('/')[0])).toBeGreaterThanOrEqual(7);
    expect(await page.locator('#samples-body tr td.exact').count()).toBeGreaterThanOrEqual(7);
    expect(await page.locator('#chart').getAttribute('aria-label')).toMatch(/in 20 steps$/);

    await page.getByLabel('Try your own words').fill('rubber duck');
    await page.getByRole('button', { name: 'Translate' }).click();
    await page.getByText('ubber-ray uck-day').and(page.locator('#try-output')).waitFor();
    expect(complaints).toEqual([]);
    await shot(page, 'demo-after');
    await page.close();
  });

  test('stops within a step, keeps its settings in the address, and starts over', async () => {
    const { page, complaints } = await open('?rank=8&lr=0.002&steps=500');
    await scored(page, 'before');
    expect(await page.getByLabel('Rank').inputValue()).toBe('8');
    expect(await page.getByLabel('Learning rate').inputValue()).toBe('0.002');
    await page.getByRole('button', { name: 'Train' }).click();
    await page.waitForFunction(() => Number(document.querySelector('#step')?.textContent.split(' ')[0]) >= 3);
    const asked = await page.evaluate(() => {
      document.querySelector<HTMLButtonElement>('#stop-button')!.click();
      return Number(document.querySelector('#step')!.textContent.split(' ')[0]);
    });
    await scored(page, 'after');
    // the step that was under way may end, no other may begin
    expect((await stepOf(page)) - asked).toBeLessThanOrEqual(1);
    expect(await text(page, 'train-status')).toMatch(/^Stopped after/);

    await page.getByLabel('Learning rate').fill('fast');
    await page.getByRole('button', { name: 'Train more' }).click();
    expect(await page.getByRole('alert').filter({ hasText: 'learning rate' }).count()).toBe(1);
    await page.getByLabel('Learning rate').fill('0.003');
    await page.getByLabel('Rank').selectOption('16');
    expect(new URL(page.url()).search).toBe('?rank=16&lr=0.003&steps=500');
    await page.getByRole('button', { name: 'Start over' }).click();
    await page.getByText('A fresh adapter.').waitFor();
    expect(await stepOf(page)).toBe(0);
    expect(await text(page, 'after-score')).toBe('');
    expect(complaints).toEqual([]);
    await page.close();
  });

  test('says what went wrong when the model cannot be loaded', async () => {
    const context = await browser.newContext();
    await context.route('**/model.safetensors*', (route) => route.fulfill({ status: 503 }));
    const page = await context.newPage();
    await page.goto(address);
    await page.getByRole('alert').filter({ hasText: 'model.safetensors' }).waitFor();
    expect(await page.getByRole('button', { name: 'Reload the page' }).isVisible()).toBe(true);
    expect(await page.locator('#loading').isVisible()).toBe(false);
    await shot(page, 'demo-error');
    await context.close();
  });

  test('says so on a page without WebGPU, and what to do', async () => {
    const plain = await chromium.launch({
      executablePath: findBrowser(),
      args: [...browserArgs().filter((arg) => !WEBGPU_ARGS.includes(arg)), '--disable-features=WebGPU'],
    });
    try {
      const { page } = await open('', plain);
      await page.getByRole('heading', { name: /needs WebGPU/ }).waitFor();
      expect(await text(page, 'no-webgpu')).toMatch(/Chrome or Edge/);
      expect(await page.getByRole('button', { name: 'Train' }).isVisible()).toBe(false);
      await shot(page, 'demo-without-webgpu');
    } finally {
      await plain.close();
    }
  });
});

/** Runs an example as `npm run example NAME` does; returns what it printed. */
async function runExample(name: string): Promise<string> {
  const child = spawn(process.execPath, ['scripts/run-example.mjs', name], { cwd: root });
  let output = '';
  child.stdout.on('data', (data) => (output += String(data)));
  child.stderr.on('data', (data) => (output += String(data)));
  const code = await new Promise((resolve) => child.on('close', resolve));
  expect(code, output).toBe(0);
  return output;
}

describe('npm run example', () => {
  test('pig-latin prints the table, falling losses, and samples', async () => {
    const output = await runExample('pig-latin');
    expect(output).toMatch(/Input +Target +Weight/);
    const losses = [...output.matchAll(/loss per token: (\d+\.\d+)/g)].map(([, loss]) => Number(loss));
    expect(losses).toHaveLength(20);
    expect(losses[5]).toBeLessThan(losses[0]!);
    expect(losses.at(-1)).toBeLessThan(0.1);
    expect(output.match(/^\d: "/gm)).toHaveLength(8);
    expect(output.match(/^✓/gm)).toHaveLength(7);
  });

  test('first-steps is the code of the README, and does what it says', async () => {
    const [, code] = readFileSync(`${root}/README.md`, 'utf8').match(/```ts\n(.*?)```/s)!;
    const file = readFileSync(`${root}/examples/first-steps.ts`, 'utf8');
    expect(file.slice(file.indexOf('import')).replace('../src/index', 'webtinker')).toBe(code);
    const lines = (await runExample('first-steps')).trim().split('\n');
    expect(lines.pop()!.trim()).toBe('anana-bay plit-say');
    expect(lines).toHaveLength(20);
    expect(Number(lines.at(-1))).toBeLessThan(Number(lines[0]) / 10);
  });
});
