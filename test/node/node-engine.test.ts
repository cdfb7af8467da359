/** The packed package in plain Node: trains, samples, keeps, ends, and dies as it should. */
import { cpSync, mkdtempSync, readdirSync } from 'node:fs';
import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Project, root } from './support/package';

let project: Project;
beforeAll(() => {
  project = new Project();
});
afterAll(() => project.remove());

/** Code that makes a datum of a phrase. */
const DATUM = `
  import { Datum, ModelInput, ServiceClient } from 'webtinker';
  const datumOf = (length) => new Datum({
    modelInput: ModelInput.fromInts(Array.from({ length }, (_, i) => 97 + (i % 7))),
    lossFnInputs: {
      target_tokens: Array.from({ length }, (_, i) => 97 + ((i + 1) % 7)),
      weights: Array(length).fill(1),
    },
  });
`;

/** Runs a module that ends well and prints one line of JSON, and gives that. */
async function answerOf(code: string): Promise<unknown> {
  const { code: status, out } = await project.module(code);
  expect(out, out).toMatch(/^.*\n$/);
  expect(status).toBe(0);
  return JSON.parse(out);
}

test('twenty lines fine-tune and sample', () => {
  project.add('examples/node/quickstart.mjs');
  const lines = project.run('quickstart.mjs').trim().split('\n');
  expect(lines).toHaveLength(16);
  const losses = lines.slice(0, 15).map((line) => Number(/loss (.*)$/.exec(line)![1]));
  expect(losses[14]).toBeLessThan(losses[0]! / 50);
  expect(lines[15]).toBe('banana split → anana-bay plit-say');
});

test('code written for Tinker is tested with vitest, without a key', () => {
  const user = new Project({ with: ['vitest'] });
  try {
    user.add('examples/node/teach.mjs');
    user.add('examples/node/teach.test.mjs');
    const report = user.run('node_modules/vitest/vitest.mjs', ['run', '--reporter=json']);
    expect(JSON.parse(report)).toMatchObject({ success: true, numPassedTests: 3, numTotalTests: 3 });
  } finally {
    user.remove();
  }
});

test('computes natively in a thread of its own, while the program goes on', async () => {
  const answer = await answerOf(`${DATUM}
    const service = new ServiceClient();
    const { device, storage } = await service.getServerCapabilities();
    const training = await service.createLoraTrainingClient({ rank: 8, seed: 1 });
    await training.forwardBackward([datumOf(8)], 'cross_entropy');
    let ticks = 0;
    const timer = setInterval(() => ticks++, 5);
    const start = performance.now();
    for (let i = 0; i < 3; i++) await training.forwardBackward(Array(8).fill(datumOf(400)), 'cross_entropy');
    const took = performance.now() - start;
    clearInterval(timer);
    console.log(JSON.stringify({ device, storage, ticks, took }));
  `);
  const { device, storage, ticks, took } = answer as {
    device: { kind: string; threads: number; reason: string };
    storage: string;
    ticks: number;
    took: number;
  };
  expect(device).toMatchObject({ kind: 'cpu', software: false });
  expect(device.threads).toBeGreaterThan(0);
  expect(device.reason).toContain('npm install webgpu');
  expect(storage).toBe('folder');
  // a blocked loop would have ticked between the calls at most; a busy machine may tick late
  expect(ticks).toBeGreaterThan(Math.max(6, took / 50));
});

describe('a program', () => {
  test('stays while it waits for the engine, and ends when nothing waits, disposed or not', async () => {
    const { code, out } = await project.module(`
      import { ServiceClient } from 'webtinker';
      const service = new ServiceClient();
      void service.createLoraTrainingClient({ rank: 1 }).then(() => console.log('made'));
    `);
    expect({ code, out }).toEqual({ code: 0, out: 'made\n' });
  });

  test('gets a typed error for every call when the thread is killed, and goes on with a new engine', async () => {
    const answer = await answerOf(`${DATUM}
      import { WorkerDiedError } from 'webtinker';
      let thread;
      process.on('worker', (worker) => (thread = worker));
      const outcome = (promise) => promise.then(() => 'done', (e) => (e instanceof WorkerDiedError ? e.code : String(e)));
      const first = new ServiceClient();
      const training = await first.createLoraTrainingClient({ rank: 4 });
      const pending = [1, 2, 3].map(() => outcome(training.forwardBackward([datumOf(200)], 'cross_entropy').result()));
      await thread.terminate();
      const killed = await Promise.all(pending);
      const later = await outcome(first.stats());
      const second = new ServiceClient();
      await second.createLoraTrainingClient({ rank: 4 });
      const { models } = await second.stats();
      await second.dispose();
      console.log(JSON.stringify({ killed, later, models }));
    `);
    const dead = 'worker_died';
    expect(answer).toEqual({ killed: [dead, dead, dead], later: dead, models: 1 });
  });

  test('gives up, follows progress and tokens, and disposes of the engine', async () => {
    const answer = await answerOf(`${DATUM}
      const service = new ServiceClient();
      const phases = new Set();
      const sampler = await service.createSamplingClient({
        baseModel: 'webtinker/pocket',
        onProgress: ({ phase }) => phases.add(phase),
      });
      const prompt = ModelInput.fromInts([65, 66, 67]);
      const samplingParams = { maxTokens: 400, temperature: 1, seed: 1, stop: [] };
      const give = new AbortController();
      const tokens = [];
      const codeOf = (promise) => promise.then(() => 'done', ({ code, message }) => [code, message]);
      for await (const event of sampler.stream({ prompt, samplingParams: { ...samplingParams, maxTokens: 8 } })) {
        tokens.push(...event.tokens);
      }
      const long = sampler.sample({ prompt, numSamples: 8, samplingParams, signal: give.signal });
      setTimeout(() => give.abort(), 20);
      const aborted = await codeOf(long);
      const pending = codeOf(sampler.sample({ prompt, numSamples: 8, samplingParams }));
      await service.dispose();
      const disposed = await pending;
      console.log(JSON.stringify({ download: phases.has('download'), tokens: tokens.length, aborted, disposed }));
    `);
    expect(answer).toMatchObject({ download: true, tokens: 8, aborted: ['aborted', expect.anything()] });
    expect((answer as { disposed: string[] }).disposed[1]).toMatch(/disposed/);
  });

  test('is told which of its options are wrong', async () => {
    project.write('a-file', '');
    const answer = await answerOf(`
      import { ServiceClient } from 'webtinker';
      const codeOf = async (run) => { try { await run(); return 'done'; } catch ({ code, message }) { return [code, message]; } };
      console.log(JSON.stringify([
        await codeOf(() => new ServiceClient({ store: '' })),
        await codeOf(() => new ServiceClient({ device: 'abacus' })),
        await codeOf(() => new ServiceClient({ device: 'webgpu' }).getServerCapabilities()),
        await codeOf(() => new ServiceClient({ store: 'a-file/x' }).createRestClient().listTrainingRuns()),
        await codeOf(() => new ServiceClient().createLoraTrainingClient({ baseModel: './no-such-model' })),
      ]));
    `);
    expect(answer).toEqual([
      ['bad_request', expect.stringMatching(/^store: must be the path of a folder/)],
      ['unsupported', expect.stringMatching(/^device: must be one of auto, webgpu, wasm, cpu/)],
      ['device_unavailable', expect.stringContaining('npm install webgpu')],
      ['storage', expect.stringContaining('a-file')],
      ['not_found', expect.stringMatching(/no-such-model.config\.json: there is no such file\. A model is/)],
    ]);
  });
});

describe('checkpoints', () => {
  test('are in the folder of WEBTINKER_HOME, and a later process trains on bit for bit', async () => {
    const train = (n: number) => `
      const losses = [];
      for (let i = 0; i < ${n}; i++) {
        const forwardBackward = training.forwardBackward([datumOf(30)], 'cross_entropy');
        await training.optimStep({ learningRate: 1e-3 });
        losses.push((await forwardBackward).metrics['loss:sum']);
      }`;
    const whole = (await answerOf(`${DATUM}
      const service = new ServiceClient({ store: 'elsewhere' });
      const training = await service.createLoraTrainingClient({ rank: 8, seed: 3 });
      ${train(6)}
      console.log(JSON.stringify(losses));
    `)) as number[];
    const saved = (await answerOf(`${DATUM}
      const service = new ServiceClient();
      const training = await service.createLoraTrainingClient({ rank: 8, seed: 3 });
      ${train(3)}
      const { path } = await training.saveState('half');
      console.log(JSON.stringify({ path, losses }));
    `)) as { path: string; losses: number[] };
    expect(readdirSync(join(project.path, 'home/checkpoints/records/checkpoints'))).toHaveLength(1);
    const resumed = (await answerOf(`${DATUM}
      const service = new ServiceClient();
      const training = await service.createTrainingClientFromStateWithOptimizer('${saved.path}');
      ${train(3)}
      console.log(JSON.stringify(losses));
    `)) as number[];
    expect([...saved.losses, ...resumed]).toEqual(whole);
  });

  test('of several processes share a folder, and travel as archives', async () => {
    const saver = `${DATUM}
      const service = new ServiceClient({ store: 'shared' });
      const training = await service.createLoraTrainingClient({ rank: 2 });
      for (const name of ['a', 'b', 'c']) await training.saveState(name);
    `;
    const ends = await Promise.all([project.module(saver), project.module(saver)]);
    expect(ends).toEqual([
      { code: 0, out: '' },
      { code: 0, out: '' },
    ]);
    const answer = await answerOf(`${DATUM}
      import { openAsBlob } from 'node:fs';
      import { writeFile } from 'node:fs/promises';
      const rest = new ServiceClient({ store: 'shared' }).createRestClient();
      const { checkpoints } = await rest.listUserCheckpoints();
      const archive = await rest.getCheckpointArchiveUrlFromTinkerPath(checkpoints[0].tinkerPath);
      const blob = await (await fetch(archive.url)).blob();
      const other = new ServiceClient({ store: 'other' });
      await writeFile('guest.tar', blob.stream());
      const imported = await other.createRestClient().importCheckpoint(await openAsBlob('guest.tar'), { name: 'guest' });
      const training = await other.createTrainingClientFromState(imported.tinkerPath);
      const { loraRank } = await training.getInfo();
      console.log(JSON.stringify({ count: checkpoints.length, bytes: blob.size, loraRank }));
    `);
    expect(answer).toMatchObject({ count: 6, loraRank: 2 });
  });
});

test('models come from folders, by path and by address, and from servers', async () => {
  const odd = mkdtempSync(join(project.path, 'a model #1 100% '));
  cpSync(join(root, 'test/fixtures/models/tied'), odd, { recursive: true });
  cpSync(odd, join(project.path, 'models/tied'), { recursive: true });
  const server = createServer((request, response) => {
    readFile(join(odd, request.url!.split('/').at(-1)!)).then(
      (bytes) => response.end(bytes),
      () => response.writeHead(404).end(),
    );
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  const { port } = server.address() as AddressInfo;
  try {
    const answer = await answerOf(`${DATUM}
      import { pathToFileURL } from 'node:url';
      const service = new ServiceClient();
      const answers = [];
      const odd = ${JSON.stringify(odd)};
      for (const baseModel of [odd, pathToFileURL(odd).href, './models/tied', 'models/tied', 'http://127.0.0.1:${port}/tied/']) {
        const training = await service.createLoraTrainingClient({ baseModel, rank: 2, seed: 1 });
        const { metrics } = await training.forward([datumOf(3)].map((d) => new Datum({
          modelInput: ModelInput.fromInts([1, 2, 3]),
          lossFnInputs: { target_tokens: [2, 3, 4], weights: [1, 1, 1] },
        })), 'cross_entropy');
        answers.push(metrics['loss:sum']);
      }
      console.log(JSON.stringify(answers));
    `);
    expect(new Set(answer as number[]).size).toBe(1);
    expect((answer as number[])[0]).toBeGreaterThan(0);
  } finally {
    server.close();
  }
});

test('where the native code is missing, WebAssembly takes over and says why', async () => {
  const bare = new Project({
    without: ['onnxruntime-node'],
    copy: ['@huggingface/transformers'],
    with: ['@huggingface/jinja', 'onnxruntime-common', 'sharp'],
  });
  try {
    bare.add('examples/node/quickstart.mjs');
    expect(bare.run('quickstart.mjs')).toContain('banana split → anana-bay plit-say');
    const { out } = await bare.module(`
      import { ServiceClient, DeviceUnavailableError } from 'webtinker';
      const { device } = await new ServiceClient().getServerCapabilities();
      const error = await new ServiceClient({ device: 'cpu' }).getServerCapabilities().catch((e) => e);
      const typed = error instanceof DeviceUnavailableError;
      console.log(JSON.stringify({ device, typed, message: error.message }));
    `);
    expect(JSON.parse(out)).toMatchObject({
      device: {
        kind: 'wasm',
        threads: 1,
        reason: expect.stringMatching(/native ONNX Runtime cannot be .*onnxruntime-node/) as string,
        advice: null,
      },
      typed: true,
      message: expect.stringContaining('onnxruntime-node') as string,
    });
  } finally {
    bare.remove();
  }
});
