/** The demo's second tab, driven as a user would: one browser profile, the tests in the order of the story. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { BrowserContext, Page } from 'playwright';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Demo, scored, shot, text } from './support/demo';

let demo: Demo;
let context: BrowserContext;
let page: Page;
let complaints: string[];
let folder: string;

beforeAll(async () => {
  demo = await Demo.start();
  context = await demo.browser.newContext();
  folder = mkdtempSync(join(tmpdir(), 'webtinker-demo-'));
});
afterAll(async () => {
  rmSync(folder, { recursive: true, force: true });
  await demo.stop();
});

const button = (name: string) => page.getByRole('button', { name, exact: true });
const alertWith = (hasText: RegExp) => page.getByRole('alert').filter({ hasText });
const runs = () => page.locator('.run');
/** Rows of the list, as `NAME TYPE`, in order. */
const rows = () =>
  page.locator('.run tbody tr').evaluateAll((all) =>
    all.map((row) =>
      [...row.children]
        .slice(0, 2)
        .map((cell) => cell.textContent)
        .join(' '),
    ),
  );
async function train(start: string): Promise<void> {
  await button(start).click();
  await page.getByText(/^Done after 3 steps in [\d.]+ s\.$/).waitFor();
}

describe('runs and checkpoints', () => {
  /** loss after six steps without a break */
  let unbroken: string;

  test('an empty list says what to do; Save keeps both kinds, and refuses a taken name in place', async () => {
    ({ page, complaints } = await demo.open('?tab=checkpoints&steps=3', context));
    await page.getByRole('heading', { name: 'Nothing saved yet' }).waitFor();
    expect(await page.locator('#train-page').isVisible()).toBe(false);
    await shot(page, 'demo-checkpoints-empty');
    await button('Go to Train').click();
    expect(new URL(page.url()).search).toBe('?steps=3');
    await page.goBack();
    await page.getByRole('heading', { name: 'Nothing saved yet' }).waitFor();

    // the arrow keys move between the tabs, and round
    await page.getByRole('tab', { selected: true }).focus();
    await page.keyboard.press('ArrowRight');
    expect(await page.getByRole('tab', { selected: true }).innerText()).toBe('Train');
    expect(await button('Save').isVisible()).toBe(false);
    await train('Train');
    expect(await page.getByLabel('Save this adapter as').inputValue()).toBe('step-3');
    await button('Save').click();
    await page.getByText('Saved “step-3”.').waitFor();
    await button('Save').click();
    await alertWith(/^ConflictError: name: .*step-3 exists already/).waitFor();

    await train('Train more');
    unbroken = await text(page, 'loss');
    expect(await page.getByLabel('Save this adapter as').inputValue()).toBe('step-6');

    // room for the training state (5.8 MB), none for the sampler weights after it: neither stays
    const browser = await context.newCDPSession(page);
    const { origin } = new URL(page.url());
    await browser.send('Storage.overrideQuotaForOrigin', { origin, quotaSize: 14e6 });
    await button('Save').click();
    await alertWith(/^StorageFullError: /).waitFor();
    await browser.send('Storage.overrideQuotaForOrigin', { origin });
  });

  test('after a reload it is listed, and training goes on as if it had never stopped', async () => {
    await page.getByRole('tab', { name: 'Runs and checkpoints' }).click();
    expect(new URL(page.url()).searchParams.get('tab')).toBe('checkpoints');
    await page.reload();
    await runs().waitFor();
    expect(await runs().count()).toBe(1);
    expect(await runs().innerText()).toMatch(/webtinker\/pocket\s+rank 32\s+last used .*7\.7 MB/);
    expect(await rows()).toEqual(['step-3 training state', 'step-3 sampler weights']);
    expect(await text(page, 'storage-facts')).toMatch(/7\.7 MB in 1 run[^]*The browser allows\s+\d/);

    await button('Resume step-3').click();
    await page.getByText('Resumed “step-3”: training goes on from here.').waitFor();
    expect(await page.getByRole('tab', { selected: true }).innerText()).toBe('Train');
    expect(await text(page, 'step')).toBe('3');
    expect(await page.locator('#chart').getAttribute('aria-label')).toMatch(/in 3 steps$/);
    await train('Train more');
    expect(await text(page, 'step')).toBe('6 / 6');
    expect(await text(page, 'loss')).toBe(unbroken);
  });

  test('asks before unsaved steps are dropped', async () => {
    await page.getByRole('tab', { name: 'Runs and checkpoints' }).click();
    await button('Resume step-3').click();
    await page.getByText('Drop 3 unsaved steps of the Train tab?').waitFor();
    await page.keyboard.press('Escape');
    expect(await page.getByText('Drop 3 unsaved steps').count()).toBe(0);

    await page.getByRole('tab', { name: 'Train' }).click();
    expect(await text(page, 'step')).toBe('6 / 6');
    await button('Save').click();
    await button('See what is saved').click();
    await runs().nth(1).waitFor();
    expect((await rows()).slice(0, 2)).toEqual(['step-6 training state', 'step-6 sampler weights']);
    expect(await runs().first().innerText()).toContain('resumed from step-3');
  });

  test('samples from a checkpoint, token by token, until it is stopped', async () => {
    await button('Sample step-3').click();
    await page.evaluate(() => {
      const lengths: number[] = [];
      Object.assign(window, { lengths });
      const output = document.querySelector('#stream-output')!;
      const look = () => lengths.push(output.querySelector('ins')?.textContent.length ?? 0);
      new MutationObserver(look).observe(output, { childList: true, subtree: true });
    });
    await button('Sample').click();
    await page.getByText(/^\d+ tokens, \d+ a second: done$/).waitFor();
    const lengths = await page.evaluate(() => (window as unknown as { lengths: number[] }).lengths);
    expect(new Set(lengths).size).toBeGreaterThan(5);
    expect(await text(page, 'stream-output')).toMatch(/^English: coffee break\nPig Latin: \S/);
    await shot(page, 'demo-checkpoints');

    await page.getByLabel('Prompt').fill('It was the best of times, ');
    await page.getByLabel('Temperature').fill('1');
    await page.getByLabel('Tokens at most').fill('400');
    await button('Sample').click();
    await page.getByText(/^\d+ tokens, \d+ a second$/).waitFor();
    await page.locator('#stream-stop').click();
    await page.getByText(/^Stopped\.$/).waitFor();
    expect((await text(page, 'stream-output')).length).toBeLessThan(400);
    expect(await button('Sample').isEnabled()).toBe(true);
  });

  test('downloads a tar that tar can list, and takes it back as a run of its own', async () => {
    const [download] = await Promise.all([
      page.waitForEvent('download'),
      button('Download step-6').first().click(),
    ]);
    expect(download.suggestedFilename()).toBe('step-6.tar');
    const archive = join(folder, 'step-6.tar');
    await download.saveAs(archive);
    const listed = execFileSync('tar', ['-tf', archive], { encoding: 'utf8' }).trim().split('\n');
    expect(listed).toEqual(expect.arrayContaining(['adapter_config.json', 'adapter_model.safetensors']));

    await page.locator('#import-files').setInputFiles(archive);
    await page.getByText('Imported “step-6”.').waitFor();
    expect(await rows()).toHaveLength(5);
    await runs().first().getByRole('button', { name: 'Resume step-6' }).click();
    await page.getByText(/^Resumed “step-6”: .* without an optimizer’s state/).waitFor();
    await scored(page, 'after');
    await page.getByRole('tab', { name: 'Runs and checkpoints' }).click();

    // what peft writes is these two files, unpacked
    execFileSync('tar', ['-xf', archive, '-C', folder]);
    const files = ['adapter_config.json', 'adapter_model.safetensors'].map((name) => join(folder, name));
    await page.locator('#import-files').setInputFiles(files);
    await page.getByText('Imported “imported”.').waitFor();
    expect(await rows()).toHaveLength(6);

    const broken = join(folder, 'broken.tar');
    writeFileSync(broken, 'not a tar');
    await page.locator('#import-files').setInputFiles(broken);
    await alertWith(/^UnprocessableEntityError: /).waitFor();
    expect(await rows()).toHaveLength(6);
  });

  test('exports the merged model as a tar for transformers.js', async () => {
    const [download] = await Promise.all([page.waitForEvent('download'), button('ONNX step-6').click()]);
    expect(download.suggestedFilename()).toBe('step-6-onnx.tar');
    const archive = join(folder, 'step-6-onnx.tar');
    await download.saveAs(archive);
    const listed = execFileSync('tar', ['-tf', archive], { encoding: 'utf8' }).trim().split('\n');
    expect(listed).toEqual(expect.arrayContaining(['config.json', 'tokenizer.json', 'onnx/model.onnx']));
    await button('ONNX step-6').waitFor();
  });

  test('flags and lifetimes stay; another tab sees what this one deletes', async () => {
    const flag = page.getByRole('checkbox', { name: 'step-6 is public' }).first();
    await flag.check();
    const lifetime = page.getByRole('combobox', { name: 'step-6 expires' }).first();
    await lifetime.selectOption('in 1 week');
    await expect.poll(() => lifetime.locator('option:checked').innerText()).toBe('in 7 days');

    const first = page;
    const second = await demo.open('?tab=checkpoints', context);
    page = second.page;
    await runs().first().waitFor();
    expect(await page.getByRole('checkbox', { name: 'step-6 is public' }).first().isChecked()).toBe(true);
    expect(
      await page
        .getByRole('combobox', { name: 'step-6 expires' })
        .first()
        .locator('option:checked')
        .innerText(),
    ).toBe('in 7 days');
    await button('Delete step-3').first().click();
    await button('Keep').click();
    expect(await rows()).toHaveLength(6);
    for (let left = 5; left >= 4; left--) {
      await button('Delete step-3').first().click();
      await button('Delete').click();
      await expect.poll(async () => (await rows()).length).toBe(left);
    }
    expect(second.complaints).toEqual([]);

    // the other tab has not looked again: what is gone is a typed error in place
    page = first;
    await button('Download step-3').first().click();
    await alertWith(/^NotFoundError: .*step-3/).waitFor();
    await page.evaluate(() => dispatchEvent(new Event('focus')));
    await expect.poll(async () => (await rows()).length).toBe(4);
    expect(complaints).toEqual([]);
    await second.page.close();
  });

  test('fits any screen: no button is cut off', async () => {
    for (const width of [1280, 1000, 830, 390]) {
      await page.setViewportSize({ width, height: 844 });
      for (const name of ['Runs and checkpoints', 'Train']) {
        await page.getByRole('tab', { name }).click();
        const overflow = await page.evaluate(() =>
          [document.documentElement, ...document.querySelectorAll('.run .scroll, #samples .scroll')].map(
            ({ scrollWidth, clientWidth }) => scrollWidth - clientWidth,
          ),
        );
        expect(Math.max(...overflow), `${name} at ${width} pixels`).toBe(0);
        if (width === 390) await shot(page, `demo-phone-${name.split(' ')[0]!.toLowerCase()}`);
      }
    }
  });
});
