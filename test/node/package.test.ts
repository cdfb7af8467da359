/** The built package, as its users get it: in Node, and in a page made by a bundler. */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright';
import { build, preview } from 'vite';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { browserArgs, findBrowser } from '../../scripts/find-browser.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
let project: string;

/** A project that depends on the built package and on nothing else. */
beforeAll(() => {
  execFileSync(process.execPath, ['scripts/build.mjs'], { cwd: root });
  project = mkdtempSync(join(tmpdir(), 'webtinker-user-'));
  mkdirSync(join(project, 'node_modules'));
  symlinkSync(root, join(project, 'node_modules/webtinker'), 'junction');
  writeFileSync(join(project, 'package.json'), '{ "type": "module" }');
});

afterAll(() => rmSync(project, { recursive: true, force: true }));

test('Node imports the package, and is told what it cannot do', () => {
  const script = `
    import { ServiceClient, ModelInput, TinkerError } from 'webtinker';
    const { length } = ModelInput.fromInts([1, 2, 3]);
    const error = await new ServiceClient().getServerCapabilities().catch((error) => error);
    console.log(JSON.stringify({ length, typed: error instanceof TinkerError, code: error.code, message: error.message }));
  `;
  writeFileSync(join(project, 'node.js'), script);
  const output = execFileSync(process.execPath, ['node.js'], { cwd: project, encoding: 'utf8' });
  expect(JSON.parse(output)).toMatchObject({ length: 3, typed: true, code: 'webgpu_unavailable' });
});

const useJax = `
  import { TensorData } from 'webtinker';
  import { jaxLoss } from 'webtinker/jax';
  const loss = jaxLoss((_, [logprobs]) => ({ loss: logprobs.ref.mul(logprobs).sum() }));
  const answer = await loss([], [TensorData.fromArray([1, -2])]).catch(({ code, message }) => ({ code, message }));
  console.log(JSON.stringify({ ...answer, ...(answer.gradients && { gradients: answer.gradients.map((g) => [...g]) }) }));
`;

test('losses are differentiated where jax-js is installed; where it is not, the error says so', () => {
  writeFileSync(join(project, 'loss.js'), useJax);
  const run = (cwd: string): unknown =>
    JSON.parse(execFileSync(process.execPath, ['loss.js'], { cwd, encoding: 'utf8' }));
  expect(run(project)).toEqual({ loss: 5, gradients: [[2, -4]], metrics: {} });

  // a copy, whose folders above have no jax-js
  const without = join(project, 'without-jax');
  const copy = join(without, 'node_modules/webtinker');
  cpSync(join(root, 'dist'), join(copy, 'dist'), { recursive: true });
  cpSync(join(root, 'package.json'), join(copy, 'package.json'));
  symlinkSync(join(root, 'node_modules/comlink'), join(without, 'node_modules/comlink'), 'junction');
  writeFileSync(join(without, 'package.json'), '{ "type": "module" }');
  writeFileSync(join(without, 'loss.js'), useJax);
  expect(run(without)).toMatchObject({
    code: 'unsupported',
    message: expect.stringContaining('npm install @jax-js/jax') as string,
  });
});

test('TypeScript finds the types, under the rules of Node and of bundlers', () => {
  const code = `
    import { ServiceClient, type APIFuture, type ForwardBackwardOutput } from 'webtinker';
    import { jaxLoss } from 'webtinker/jax';
    const training = await new ServiceClient().createLoraTrainingClient({ rank: 8 });
    export const future: APIFuture<ForwardBackwardOutput> = training.forwardBackward([], 'cross_entropy');
    void training.forwardBackwardCustom([], jaxLoss((_, [logprobs]) => ({ loss: logprobs!.sum() })));
    // @ts-expect-error a name of the wire, not of this library
    await training.optimStep({ learning_rate: 1 });
  `;
  writeFileSync(join(project, 'types.ts'), code);
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
    writeFileSync(join(project, 'tsconfig.json'), JSON.stringify(config));
    execFileSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', project], {
      stdio: 'pipe',
    });
  }
});

test('a bundled page starts the engine and finds the default model', async () => {
  writeFileSync(
    join(project, 'index.html'),
    '<!doctype html><script type="module" src="./page.js"></script>',
  );
  const page = `
    import { ServiceClient } from 'webtinker';
    const service = new ServiceClient();
    const training = await service.createLoraTrainingClient({ rank: 1 });
    const info = await training.getInfo();
    const tokenizer = await training.getTokenizer();
    document.title = info.modelName + ' ' + tokenizer.encode('Hi!').join();
  `;
  writeFileSync(join(project, 'page.js'), page);
  await build({ root: project, configFile: false, logLevel: 'error', build: { target: 'es2022' } });
  const server = await preview({ root: project, configFile: false, logLevel: 'error', preview: { port: 0 } });
  const browser = await chromium.launch({ executablePath: findBrowser(), args: browserArgs() });
  try {
    const tab = await browser.newPage();
    const problems: string[] = [];
    tab.on('pageerror', (error) => problems.push(String(error)));
    await tab.goto(server.resolvedUrls!.local[0]!);
    await expect.poll(() => tab.title(), { timeout: 100_000 }).toBe('webtinker/pocket 72,105,33');
    expect(problems).toEqual([]);
  } finally {
    await browser.close();
    await server.close();
  }
});

test('package.json names only files that exist', () => {
  const { exports, types } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    exports: Record<string, Record<string, string>>;
    types: string;
  };
  for (const path of [types, ...Object.values(exports['.']!)])
    expect(readFileSync(join(root, path)).length).toBeGreaterThan(0);
});
