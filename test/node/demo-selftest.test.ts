/** The demo's self-test, driven as a user would. */
import { chromium } from 'playwright';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { browserArgs, findBrowser } from '../../scripts/find-browser.mjs';
import type { ConformanceReport } from '../../src/conformance';
import { Demo, shot, text } from './support/demo';

let demo: Demo;
beforeAll(async () => {
  demo = await Demo.start();
});
afterAll(() => demo.stop());

const PAGE = 'self-test.html';

describe('the self-test', () => {
  test('runs, says that the GPU agrees, and copies what it shows', async () => {
    const context = await demo.browser.newContext({ permissions: ['clipboard-read', 'clipboard-write'] });
    const { page, complaints } = await demo.open(`${PAGE}?seed=3&cases=4`, context);
    expect(await page.getByLabel('Seed').inputValue()).toBe('3');
    await page.getByRole('button', { name: 'Run the self-test' }).click();
    await page.getByText(/^\d+ of \d+: attention/).waitFor();
    await shot(page, 'self-test-running');
    await page
      .locator('#verdict')
      .getByText(/agrees with onnxruntime-web/)
      .waitFor({ timeout: 200_000 });
    expect(await text(page, 'facts')).toMatch(/swiftshader.*\(software\)/i);
    expect(await page.locator('#results-body tr:not(.group)').count()).toBeGreaterThan(35);
    expect(await page.locator('#results-body tr.bad').count()).toBe(0);
    await shot(page, 'self-test');

    await page.getByRole('button', { name: 'Copy the report' }).click();
    await page.getByRole('button', { name: 'Copied' }).waitFor();
    const copied = await page.evaluate(() => navigator.clipboard.readText());
    const report = JSON.parse(copied) as ConformanceReport;
    expect(report).toMatchObject({
      seed: 3,
      passed: true,
      verdict: await page.locator('#verdict p').first().innerText(),
    });
    expect(complaints).toEqual([]);

    await page.emulateMedia({ colorScheme: 'dark' });
    await shot(page, 'self-test-dark');
    await page.setViewportSize({ width: 390, height: 844 });
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(390);
    await shot(page, 'self-test-phone');
    await context.close();
  });

  test('names a kernel that is wrong, and runs a case alone from its link', async () => {
    const context = await demo.browser.newContext();
    // a driver that miscompiles one kernel
    await context.addInitScript(() => {
      const { prototype } = GPUDevice;
      // eslint-disable-next-line @typescript-eslint/unbound-method -- called on the device it was asked of
      const original = prototype.createShaderModule;
      prototype.createShaderModule = function (descriptor) {
        const code =
          descriptor.label === 'swiglu-backward'
            ? descriptor.code.replace('1.0 - s', '1.0 + s')
            : descriptor.code;
        return original.call(this, { ...descriptor, code });
      };
    });
    const { page } = await demo.open(`${PAGE}?cases=4&only=swiglu&only=swiglu-backward`, context);
    await page.getByRole('button', { name: 'Run the self-test' }).click();
    await page
      .locator('#verdict')
      .getByText(/1 kernel is wrong, going by onnxruntime-web .*: swiglu-backward\.$/)
      .waitFor();
    expect(await page.locator('#results-body tr.bad').allInnerTexts()).toEqual([
      expect.stringMatching(/^swiglu-backward/),
    ]);
    expect(await text(page, 'failure-list')).toMatch(
      /Kernel swiglu-backward.*: d_gate_up\[\d+\] is .*, and should be/,
    );
    await shot(page, 'self-test-failed');
    await page.getByRole('link', { name: 'Run this case alone' }).first().click();
    await page.waitForURL(/only=swiglu-backward%23\d+$/);
    await page.getByRole('button', { name: 'Run the self-test' }).click();
    await page.getByText(/^1 case, /).waitFor();
    await page.getByRole('button', { name: 'Test everything' }).click();
    await page.waitForURL((url) => url.search === '');
    await context.close();
  });

  test('stops', async () => {
    const { page } = await demo.open(PAGE);
    await page.getByRole('button', { name: 'Run the self-test' }).click();
    await page.getByText(/^\d+ of \d+: /).waitFor();
    await page.getByRole('button', { name: 'Stop' }).click();
    await page.getByText('Stopped.').waitFor();
    expect(await page.getByRole('button', { name: 'Run the self-test' }).isEnabled()).toBe(true);
    await page.close();
  });

  test('says what is missing in a browser without WebGPU', async () => {
    const without = [
      '--enable-unsafe-webgpu',
      '--enable-features=Vulkan',
      '--use-webgpu-adapter=swiftshader',
    ];
    const args = browserArgs().filter((arg) => !without.includes(arg));
    const plain = await chromium.launch({
      executablePath: findBrowser(),
      args: [...args, '--disable-features=WebGPU'],
    });
    const { page } = await demo.open(PAGE, plain);
    await page.getByText('There is nothing to test here').waitFor();
    expect(await text(page, 'missing-reason')).toMatch(/WebGPU/);
    expect(await page.getByRole('button', { name: 'Run the self-test' }).isDisabled()).toBe(true);
    await shot(page, 'self-test-missing');
    await plain.close();
  });
});
