/** The door through a real worker: order, errors, progress, and death. */
import { afterEach, expect, it } from 'vitest';
import type {
  CreateModelRequest,
  ForwardBackwardRequest,
  SampleRequest,
  SaveWeightsRequest,
} from '../../src/api/contract/backend';
import * as errors from '../../src/api/contract/errors';
import type { ProgressEvent, SampledTokensPayload } from '../../src/api/contract/types';
import { LocalBackend, webHost } from '../../src/api/local-backend';
import { installErrorHandler } from '../../src/engine/rpc';

const opened: LocalBackend[] = [];
let worker: Worker;

function start(url = new URL('./support/door-worker.ts', import.meta.url)): LocalBackend {
  const host = webHost((name) => (worker = new Worker(url, { type: 'module', name })));
  const backend = new LocalBackend(host, { device: 'auto', store: null });
  opened.push(backend);
  return backend;
}

/** A door whose backend is open. */
async function open(): Promise<LocalBackend> {
  const backend = start();
  await backend.getInfo('first');
  return backend;
}

afterEach(() => Promise.all(opened.splice(0).map((backend) => backend.dispose())));

const rejection = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => expect.fail('it resolved'),
    (error: unknown) => error,
  );

const forward = (modelId: string, weights: Float32Array<ArrayBuffer>): ForwardBackwardRequest => ({
  modelId,
  data: [
    { tokens: [1], lossFnInputs: { weights: { dtype: 'float32', shape: [weights.length], data: weights } } },
  ],
  lossFn: 'cross_entropy',
  lossFnConfig: {},
  forwardOnly: false,
});

it('rejects when the engine cannot open, and tries again at the next call', async () => {
  const backend = start(new URL('./support/door-worker.ts?fail-once', import.meta.url));
  const both = await Promise.all(['a', 'a'].map((id) => rejection(backend.getInfo(id))));
  for (const error of both) expect(error).toBeInstanceOf(errors.WebGPUUnavailableError);
  expect(await backend.getInfo('b')).toMatchObject({ modelId: 'b' });
});

it('keeps class, code, fields, stack and cause of errors', async () => {
  const backend = await open();
  const bad = (await rejection(backend.getInfo('bad'))) as errors.BadRequestError;
  expect(bad).toBeInstanceOf(errors.BadRequestError);
  expect(bad).toMatchObject({
    code: 'bad_request',
    statusCode: 400,
    message: 'data[0].x: no',
    body: { detail: 'd' },
  });
  expect(bad.stack).toContain('door-worker');
  expect(bad.cause).toMatchObject({ name: 'TypeError', message: 'deep' });
  const full = await rejection(backend.getInfo('full'));
  expect(full).toBeInstanceOf(errors.StorageFullError);
  expect(full).toMatchObject({ code: 'storage_full', cause: { message: 'quota' } });
  expect(await rejection(backend.getInfo('conflict'))).toMatchObject({ statusCode: 409 });
  expect(await rejection(backend.getInfo('lost'))).toMatchObject({
    name: 'DeviceLostError',
    retryable: true,
  });
});

it('makes engine bugs, and errors thrown before any promise, library errors too', async () => {
  const backend = await open();
  const bug = await rejection(backend.getInfo('bug'));
  expect(bug).toBeInstanceOf(errors.InternalServerError);
  expect(bug).toMatchObject({ message: 'RangeError: off by one', cause: { name: 'RangeError' } });
  expect(await rejection(backend.sample({} as SampleRequest))).toBeInstanceOf(errors.OutOfMemoryError);
});

it('is made as often as one likes on one page', async () => {
  for (let i = 0; i < 20_000; i++) installErrorHandler();
  const backend = await open();
  expect(await rejection(backend.getInfo('conflict'))).toBeInstanceOf(errors.ConflictError);
});

it('makes an argument that cannot be cloned a library error, and goes on', async () => {
  const backend = await open();
  const error = await rejection(backend.getInfo((() => undefined) as unknown as string).then(() => 0));
  expect(error).toBeInstanceOf(errors.TinkerError);
  expect(await backend.getInfo('next')).toMatchObject({ modelId: 'next' });
});

it('hands calls over in the order in which they were made, even while the engine opens', async () => {
  const backend = start();
  const calls = [
    backend.getInfo('slow'),
    backend.forwardBackward(forward('m', new Float32Array(200_000))),
    backend.optimStep({ modelId: 'm', adamParams: {} as never }),
    backend.getInfo('x'),
    backend.forwardBackward(forward('n', new Float32Array(1))),
  ];
  await Promise.all(calls);
  const { modelName } = await backend.getInfo('end');
  expect(modelName).toBe('slow fb:m os:m x fb:n end');
});

it('copies what the caller gives and moves large results', async () => {
  const backend = await open();
  const weights = Float32Array.from({ length: 50_000 }, (_, i) => i);
  const { lossFnOutputs } = await backend.forwardBackward(forward('m', weights));
  expect(weights.length).toBe(50_000);
  expect(lossFnOutputs[0]!.logprobs!.data).toEqual(weights);
});

it('reports progress, and survives a callback that throws', async () => {
  const backend = await open();
  const events: ProgressEvent[] = [];
  const request = { baseModel: 'm' } as CreateModelRequest;
  const onProgress = (event: ProgressEvent): void => {
    events.push(event);
    throw new Error('the page cannot draw it');
  };
  await backend.createModel(request, { onProgress });
  expect(events.map(({ what, loaded }) => [what, loaded])).toEqual([
    ['m', 1],
    ['m', 2],
  ]);
  await backend.createModel(request);
  expect(await backend.getInfo('still here')).toMatchObject({ modelId: 'still here' });
});

it('waits for no promise of a callback', async () => {
  const backend = await open();
  // as one that itself waits for the model would never end
  const onProgress = (() => new Promise(() => undefined)) as () => void;
  const made = backend.createModel({ baseModel: 'm' } as CreateModelRequest, { onProgress });
  const late = new Promise((done) => setTimeout(done, 2000, 'still waiting'));
  expect(await Promise.race([made, late])).toMatchObject({ modelId: 'm' });
});

const streamed = (numSamples: number): SampleRequest =>
  ({ samplerId: 's', prompt: [1], numSamples }) as unknown as SampleRequest;

it('has every token on the page before the result, and none after', async () => {
  const backend = await open();
  const tokens: number[] = [];
  const onTokens = (event: SampledTokensPayload): void => void tokens.push(...event.tokens);
  await backend.sample(streamed(500), { onTokens });
  expect(tokens).toEqual(Array.from({ length: 500 }, (_, i) => i));
  await new Promise((done) => setTimeout(done, 20));
  expect(tokens).toHaveLength(500);
});

it('carries the signal of a call, and of that call alone', async () => {
  const backend = await open();
  const [first, second] = [new AbortController(), new AbortController()];
  const calls = [first, second].map(({ signal }) => backend.sample(streamed(0), { signal }));
  first.abort();
  expect(await rejection(calls[0]!)).toBeInstanceOf(errors.AbortedError);
  const state = await Promise.race([calls[1], backend.getInfo('still waiting')]);
  expect(state).toMatchObject({ modelId: 'still waiting' });
  second.abort();
  expect(await rejection(calls[1]!)).toBeInstanceOf(errors.AbortedError);
});

it('sends nothing when the signal has fired before, and nothing when it fires after', async () => {
  const backend = await open();
  const gone = new AbortController();
  await backend.getInfo('before');
  const done = await backend.sample(streamed(1), { signal: gone.signal });
  gone.abort();
  const late = forward('late', new Float32Array(1));
  expect(await rejection(backend.forwardBackward(late, { signal: gone.signal }))).toBeInstanceOf(
    errors.AbortedError,
  );
  expect(done.promptCacheHitTokens).toBe(2);
  expect((await backend.getInfo('after')).modelName).toBe('first before after');
});

it('carries blobs both ways', async () => {
  const backend = await open();
  const archive = await backend.getCheckpointArchive('tinker://x/weights/y');
  if (archive.kind !== 'blob') expect.fail('no blob');
  expect(await archive.blob.text()).toBe('archive of tinker://x/weights/y');
  const request = { sessionId: '', name: 'n', baseModel: null };
  const files = { 'a.json': new Blob(['1']), 'b.bin': new Blob(['2']) };
  for (const [source, seen] of [
    [archive.blob, 'tar:archive of tinker://x/weights/y'],
    [files, 'a.json:1 b.bin:2'],
  ] as const) {
    expect((await backend.importCheckpoint({ ...request, source })).tinkerPath).toBe(seen);
  }
});

it('asks the browser once to keep what is saved', async () => {
  const asked: string[] = [];
  const persist = navigator.storage.persist.bind(navigator.storage);
  navigator.storage.persist = () => {
    asked.push('persist');
    return persist();
  };
  const backend = await open();
  const request = { modelId: 'm' } as SaveWeightsRequest;
  expect(asked).toEqual([]);
  for (let i = 0; i < 2; i++) await rejection(backend.saveWeights(request));
  expect(asked).toEqual(['persist']);
  navigator.storage.persist = persist;
});

it.each([
  [
    'closes itself',
    (backend: LocalBackend) => void backend.getInfo('close').catch(() => undefined),
    'closed',
  ],
  [
    'throws outside any call',
    (backend: LocalBackend) => void backend.getInfo('crash').catch(() => undefined),
    'stray',
  ],
  ['is terminated', () => worker.terminate(), 'closed or was killed'],
])('rejects every pending and later call when the worker %s', async (_, kill, reason) => {
  const backend = await open();
  await backend.getInfo('alive');
  const pending = [backend.getInfo('hang'), backend.getInfo('hang')].map(rejection);
  kill(backend);
  for (const error of await Promise.all(pending)) {
    expect(error).toBeInstanceOf(errors.WorkerDiedError);
    expect(error).toMatchObject({ code: 'worker_died', message: expect.stringContaining(reason) as string });
  }
  expect(await rejection(backend.stats())).toBeInstanceOf(errors.WorkerDiedError);
});

it('rejects every pending and later call when it is disposed', async () => {
  const backend = await open();
  const pending = [backend.getInfo('hang'), backend.getInfo('hang')].map(rejection);
  await backend.dispose();
  for (const error of [...(await Promise.all(pending)), await rejection(backend.stats())]) {
    expect(error).toBeInstanceOf(errors.AbortedError);
    expect(error).toMatchObject({ message: 'the engine was disposed' });
  }
});

it('rejects when the script of the worker cannot be loaded', async () => {
  const backend = start(new URL('./support/no-such-worker.ts', import.meta.url));
  expect(await rejection(backend.stats())).toBeInstanceOf(errors.WorkerDiedError);
});
