/** The built package, as its users get it: in Node, and in a page made by a bundler. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { chromium, type Page } from 'playwright';
import { build, preview, type PreviewServer } from 'vite';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { browserArgs, findBrowser } from '../../scripts/find-browser.mjs';
import { manifest, Project, root } from './support/package';

let project: Project;
beforeAll(() => {
  project = new Project({ with: ['@jax-js/jax'] });
});
afterAll(() => project.remove());

const useJax = `
  import { TensorData } from 'webtinker';
  import { jaxLoss } from 'webtinker/jax';
  const loss = jaxLoss((_, [logprobs]) => ({ loss: logprobs.ref.mul(logprobs).sum() }));
  const answer = await loss([], [TensorData.fromArray([1, -2])]).catch(({ code, message }) => ({ code, message }));
  console.log(JSON.stringify({ ...answer, ...(answer.gradients && { gradients: answer.gradients.map((g) => [...g]) }) }));
`;

test('losses are differentiated where jax-js is installed; where it is not, the error says so', () => {
  const without = new Project();
  const run = (user: Project): unknown => {
    user.write('loss.js', useJax);
    return JSON.parse(user.run('loss.js'));
  };
  try {
    expect(run(project)).toEqual({ loss: 5, gradients: [[2, -4]], metrics: {} });
    expect(run(without)).toMatchObject({
      code: 'unsupported',
      message: expect.stringContaining('npm install @jax-js/jax') as string,
    });
  } finally {
    without.remove();
  }
});

test('TypeScript finds the types, under the rules of Node and of bundlers', () => {
  const code = `
    import { ServiceClient, type APIFuture, type ForwardBackwardOutput } from 'webtinker';
    import { jaxLoss } from 'webtinker/jax';
    const training = await new ServiceClient().createLoraTrainingClient({ rank: 8 });
    export const future: APIFuture<ForwardBackwardOutput> = training.forwardBackward([], 'cross_entropy');
    void training.forwardBackwardCustom([], jaxLoss((_, [logprobs]) => ({ loss: logprobs!.sum() })));
    const { device, storage } = await new ServiceClient({ device: 'cpu', store: 'here' }).getServerCapabilities();
    export const chosen: [string, number | null, string, string] = [device.kind, device.threads, device.reason, storage];
    // @ts-expect-error no such device
    new ServiceClient({ device: 'abacus' });
    // @ts-expect-error a name of the wire, not of this library
    await training.optimStep({ learning_rate: 1 });
  `;
  project.write('types.ts', code);
  for (const module of ['nodenext', 'preserve']) {
    const config = {
      compilerOptions: {
        module,
        strict: true,
        noEmit: true,
        target: 'es2022',
        lib: ['es2023', 'dom'],
        types: [],
        skipLibCheck: true,
      },
      files: ['types.ts'],
    };
    project.write('tsconfig.json', JSON.stringify(config));
    execFileSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', project.path], {
      stdio: 'pipe',
    });
  }
});

describe('a page made by a bundler', () => {
  let server: PreviewServer;
  beforeAll(async () => {
    project.write('index.html', '<!doctype html><script type="module" src="./page.js"></script>');
    const page = `
      import { Datum, ModelInput, ServiceClient } from 'webtinker';
      const device = new URLSearchParams(location.search).get('device');
      if (device === 'self-test') {
        const { runConformance } = await import('webtinker/conformance');
        const { passed, verdict } = await runConformance({ only: ['rmsnorm-backward', 'prompt'], cases: 4 });
        document.title = passed + ': ' + verdict;
      } else {
        const service = new ServiceClient({ device });
        const training = await service.createLoraTrainingClient({ rank: 1, seed: 1 });
        const tokenizer = await training.getTokenizer();
        const modelInput = ModelInput.fromInts(tokenizer.encode('Hi!'));
        const datum = new Datum({ modelInput, lossFnInputs: { target_tokens: [105, 33, 10], weights: [1, 1, 1] } });
        const { metrics } = await training.forward([datum], 'cross_entropy');
        const { device: { kind, threads } } = await service.stats();
        document.title = [kind, threads, metrics['loss:sum'].toFixed(3)].join(' ');
      }
    `;
    project.write('page.js', page);
    const options = { root: project.path, configFile: false as const, logLevel: 'error' as const };
    await build({ ...options, build: { target: 'es2022' } });
    const headers = {
      'Cross-Origin-Opener-Policy': 'same-origin',
      'Cross-Origin-Embedder-Policy': 'require-corp',
    };
    server = await preview({ ...options, preview: { port: 0, headers } });
  });
  afterAll(() => server?.close());

  /** Opens the page; its title when it is done, and what it fetched. */
  async function open(device: string): Promise<{ title: string; fetched: string[] }> {
    const browser = await chromium.launch({ executablePath: findBrowser(), args: browserArgs() });
    try {
      const tab: Page = await browser.newPage();
      const problems: string[] = [];
      const fetched: string[] = [];
      tab.on('pageerror', (error) => problems.push(String(error)));
      tab.context().on('request', (request) => fetched.push(request.url()));
      await tab.goto(`${server.resolvedUrls!.local[0]!}?device=${device}`);
      await expect.poll(async () => problems[0] ?? (await tab.title()), { timeout: 100_000 }).not.toBe('');
      expect(problems).toEqual([]);
      return { title: await tab.title(), fetched };
    } finally {
      await browser.close();
    }
  }

  const origin = (): string => new URL(server.resolvedUrls!.local[0]!).origin;

  test('computes on WebGPU, and fetches nothing of ONNX Runtime for it', async () => {
    const { title, fetched } = await open('webgpu');
    expect(title).toMatch(/^webgpu 14\.17/);
    expect(fetched.filter((url) => /\bort\b|\.wasm/.test(url))).toEqual([]);
  });

  test('computes as WebAssembly with files of the page itself, on threads', async () => {
    const { title, fetched } = await open('wasm');
    expect(title).toMatch(/^wasm [2-8] 14\.17/);
    const names = fetched.map((url) => new URL(url)).filter(({ origin: from }) => from === origin());
    expect(names.some(({ pathname }) => /\/ort-wasm[^/]*\.wasm$/.test(pathname))).toBe(true);
    // nothing of a CDN
    const elsewhere = fetched.filter((url) => !url.startsWith(origin()) && !/^(blob|data):/.test(url));
    expect(elsewhere).toEqual([]);
  });

  test('tests the GPU that it is shown on', async () => {
    const { title } = await open('self-test');
    expect(title).toMatch(/^true: .* agrees with onnxruntime-web .* in all \d+ comparisons\.$/);
  });
});

test('package.json names only files that exist', () => {
  const paths = Object.values(manifest.exports).flatMap((entry) =>
    typeof entry === 'string' ? [entry] : Object.values(entry),
  );
  for (const path of [manifest.types, ...paths])
    expect(readFileSync(join(project.path, 'node_modules/webtinker', path)).length).toBeGreaterThan(0);
  // the scripts of both platforms, the model, and the runtime beside them; no source
  const packed = join(project.path, 'node_modules/webtinker');
  expect(readdirSync(packed).sort()).toEqual(['LICENSE', 'README.md', 'dist', 'package.json']);
  expect(existsSync(join(packed, 'dist/engine-worker.js'))).toBe(true);
});
