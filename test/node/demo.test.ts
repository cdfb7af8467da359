/** The demo's training tab, driven as a user would. */
import { chromium, type Browser, type Page } from 'playwright';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { browserArgs, findBrowser } from '../../scripts/find-browser.mjs';
import { Demo, scored, shot, text } from './support/demo';

const WEBGPU_ARGS = [
  '--enable-unsafe-webgpu',
  '--enable-features=Vulkan',
  '--use-webgpu-adapter=swiftshader',
];

let demo: Demo;
beforeAll(async () => {
  demo = await Demo.start();
});
afterAll(() => demo.stop());

const stepOf = async (page: Page) => Number((await text(page, 'step')).split('/')[0]);

describe('the demo', () => {
  test('trains, shows the loss falling, and says all seven examples afterwards', async () => {
    const { page, complaints } = await demo.open('?steps=20&device=webgpu');
    await scored(page, 'before');
    expect(await text(page, 'model-card')).toMatch(/webtinker\/pocket[^]*WebGPU/);
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
    const { page, complaints } = await demo.open('?rank=8&lr=0.002&steps=500');
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
    const context = await demo.browser.newContext();
    await context.route('**/model.safetensors*', (route) => route.fulfill({ status: 503 }));
    const page = await context.newPage();
    await page.goto(demo.address);
    await page.getByRole('alert').filter({ hasText: 'model.safetensors' }).waitFor();
    expect(await page.getByRole('button', { name: 'Reload the page' }).isVisible()).toBe(true);
    expect(await page.locator('#loading').isVisible()).toBe(false);
    await shot(page, 'demo-error');
    await context.close();
  });

  describe('in a browser without WebGPU', () => {
    let plain: Browser;
    beforeAll(async () => {
      const args = browserArgs().filter((arg) => !WEBGPU_ARGS.includes(arg));
      plain = await chromium.launch({
        executablePath: findBrowser(),
        args: [...args, '--disable-features=WebGPU'],
      });
    });
    afterAll(() => plain.close());

    test('trains as WebAssembly with threads, and says so', async () => {
      const { page, complaints } = await demo.open('?steps=3', plain);
      await scored(page, 'before');
      expect(await text(page, 'device')).toMatch(/^WebAssembly, onnxruntime-web .*, \d+ threads$/);
      expect(await text(page, 'device-reason')).toMatch(/^Why: WebGPU cannot be opened/);
      expect(await text(page, 'device-advice')).toBe('');
      await page.getByRole('button', { name: 'Train' }).click();
      await scored(page, 'after');
      expect(await text(page, 'step')).toBe('3 / 3');
      expect(Number(await text(page, 'loss'))).toBeLessThan(1);
      expect(await text(page, 'engine-stats')).toMatch(/Operators in a step\s+[\d,]{3,}/);
      expect(complaints).toEqual([]);
      await shot(page, 'demo-wasm');
      await page.close();
    });

    test('computes on one thread where the page is not isolated, and says how to get more', async () => {
      const context = await plain.newContext();
      await context.route('**/*', async (route) => {
        if (route.request().resourceType() !== 'document') return route.continue();
        const response = await route.fetch();
        const headers = response.headers();
        delete headers['cross-origin-opener-policy'];
        delete headers['cross-origin-embedder-policy'];
        await route.fulfill({ response, headers });
      });
      const { page, complaints } = await demo.open('?steps=2', context);
      await scored(page, 'before');
      expect(await page.evaluate(() => crossOriginIsolated)).toBe(false);
      expect(await text(page, 'device')).toMatch(/, 1 thread$/);
      expect(await text(page, 'device-advice')).toContain('Cross-Origin-Opener-Policy: same-origin');
      await page.getByRole('button', { name: 'Train' }).click();
      await scored(page, 'after');
      // of a page that a test has answered, vite's own socket is refused
      expect(complaints.filter((text) => !/websocket/i.test(text))).toEqual([]);
      await shot(page, 'demo-one-thread');
      await context.close();
    });

    test('says what is missing where WebGPU is asked for, and that there is another way', async () => {
      const { page } = await demo.open('?device=webgpu', plain);
      await page.getByRole('heading', { name: 'Nothing here can compute' }).waitFor();
      expect(await text(page, 'no-device')).toMatch(/WebGPU/);
      expect(await page.getByRole('button', { name: 'Train' }).isVisible()).toBe(false);
      await shot(page, 'demo-no-device');
      await page.getByRole('link', { name: 'this page' }).click();
      await scored(page, 'before');
      await page.close();
    });

    test('starts anew on the device that is chosen', async () => {
      const { page } = await demo.open('?steps=2', plain);
      await scored(page, 'before');
      await page.getByLabel('Compute on').selectOption('wasm');
      await page.getByText("Why: device: 'wasm' was asked for.").waitFor();
      expect(new URL(page.url()).search).toBe('?steps=2&device=wasm');
      await page.close();
    });
  });
});
