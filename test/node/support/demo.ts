/** The demo in a real browser, for the tests that use it as a user would. Screenshots: test-artifacts/. */
import { mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { chromium, type Browser, type BrowserContext, type Page } from 'playwright';
import { createServer, type ViteDevServer } from 'vite';
import { browserArgs, findBrowser } from '../../../scripts/find-browser.mjs';

export const root = fileURLToPath(new URL('../../..', import.meta.url));
const artifacts = `${root}/test-artifacts`;

/** A page of the demo, and what its console complained about. */
export interface DemoPage {
  readonly page: Page;
  readonly complaints: string[];
}

export class Demo {
  readonly address: string;
  readonly browser: Browser;
  readonly #server: ViteDevServer;

  private constructor(server: ViteDevServer, browser: Browser) {
    this.#server = server;
    this.browser = browser;
    this.address = server.resolvedUrls!.local[0]!;
  }

  static async start(): Promise<Demo> {
    mkdirSync(artifacts, { recursive: true });
    const server = await createServer({
      configFile: `${root}/demo/vite.config.ts`,
      cacheDir: `${root}/node_modules/.vite-demo-test`,
      logLevel: 'warn',
      server: { port: 0, watch: null, hmr: false },
    });
    await server.listen();
    return new Demo(server, await chromium.launch({ executablePath: findBrowser(), args: browserArgs() }));
  }

  /** @param from a browser for a page with a storage of its own, or a context for another tab of it */
  async open(search: string, from: Browser | BrowserContext = this.browser): Promise<DemoPage> {
    const page = await from.newPage();
    await page.setViewportSize({ width: 1280, height: 1000 });
    page.setDefaultTimeout(120_000);
    const complaints: string[] = [];
    page.on('pageerror', (error) => complaints.push(String(error)));
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) complaints.push(message.text());
    });
    await page.goto(this.address + search);
    return { page, complaints };
  }

  async stop(): Promise<void> {
    await this.browser.close();
    await this.#server.close();
  }
}

/** What the element with this id shows. */
export const text = (page: Page, id: string): Promise<string> => page.locator(`#${id}`).innerText();

/** Waits until a column of samples is there, with its score. */
export const scored = (page: Page, column: 'before' | 'after'): Promise<void> =>
  page
    .getByText(/^\d\/8$/)
    .and(page.locator(`#${column}-score`))
    .waitFor();

export const shot = async (page: Page, name: string): Promise<void> => {
  await page.screenshot({ path: `${artifacts}/${name}.png`, fullPage: true });
};
