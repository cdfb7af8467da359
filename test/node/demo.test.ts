/** The demo's training tab, driven as a user would. */
import { chromium, type Page } from 'playwright';
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
    const { page, complaints } = await demo.open('?steps=20');
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

  test('says so on a page without WebGPU, and what to do', async () => {
    const plain = await chromium.launch({
      executablePath: findBrowser(),
      args: [...browserArgs().filter((arg) => !WEBGPU_ARGS.includes(arg)), '--disable-features=WebGPU'],
    });
    try {
      const { page } = await demo.open('', plain);
      await page.getByRole('heading', { name: /needs WebGPU/ }).waitFor();
      expect(await text(page, 'no-webgpu')).toMatch(/Chrome or Edge/);
      expect(await page.getByRole('button', { name: 'Train' }).isVisible()).toBe(false);
      await shot(page, 'demo-without-webgpu');
    } finally {
      await plain.close();
    }
  });
});
