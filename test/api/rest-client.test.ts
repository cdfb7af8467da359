/** What is saved, found again and given away, over the real engine and its store. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  AbortedError,
  BadRequestError,
  ConflictError,
  Datum,
  ModelInput,
  NotFoundError,
  ParsedCheckpointTinkerPath,
  ServiceClient,
  UnprocessableEntityError,
  type RestClient,
  type TrainingClient,
} from '../../src/index';

const BASE_MODEL = '/test/fixtures/models/tied/';
let service: ServiceClient;
let rest: RestClient;

beforeAll(() => {
  service = new ServiceClient({ userMetadata: { suite: 'rest' } });
  rest = service.createRestClient();
});
afterAll(() => service.dispose());

const prompt = ModelInput.fromInts([1, 5, 9, 13]);
const data = [
  new Datum({
    modelInput: prompt,
    lossFnInputs: { target_tokens: [5, 9, 13, 2], weights: [1, 1, 1, 1] },
  }),
];

/** Trains on, and answers the losses. */
async function train(model: TrainingClient, steps: number): Promise<number[]> {
  const losses = Array.from({ length: steps }, () => {
    const output = model.forwardBackward(data, 'cross_entropy');
    void model.optimStep({ learningRate: 1e-2 });
    return output;
  });
  return Promise.all(losses.map(async (output) => (await output).metrics['loss:sum']!));
}

const newModel = (): Promise<TrainingClient> =>
  service.createLoraTrainingClient({
    baseModel: BASE_MODEL,
    rank: 4,
    seed: 2,
    userMetadata: { goal: 'test' },
  });

const rejection = (promise: PromiseLike<unknown>): Promise<unknown> =>
  Promise.resolve(promise).then(
    () => expect.fail('it resolved'),
    (error: unknown) => error,
  );

describe('a saved state', () => {
  it('that cannot be gone on from leaves no run behind', async () => {
    await using model = await newModel();
    const { path } = await model.saveWeightsForSampler('only to sample');
    const runs = async () => (await rest.listTrainingRuns()).cursor.totalCount;
    const before = await runs();
    expect(await rejection(service.createTrainingClientFromState(path))).toBeInstanceOf(BadRequestError);
    expect(await runs()).toBe(before);
  });

  it('goes on in a new client as if it had never stopped; without the optimizer, otherwise', async () => {
    await using model = await newModel();
    await train(model, 3);
    const { path } = await model.saveState('resume');
    expect(path).toBe(`tinker://${model.modelId}/weights/resume`);
    const expected = await train(model, 4);
    await using resumed = await service.createTrainingClientFromStateWithOptimizer(path);
    expect(await train(resumed, 4)).toEqual(expected);
    await using restarted = await service.createTrainingClientFromState(path);
    const [first, ...others] = await train(restarted, 4);
    expect(first).toBe(expected[0]);
    expect(others).not.toEqual(expected.slice(1));
    expect(await resumed.getInfo()).toMatchObject({ loraRank: 4, modelName: BASE_MODEL });
    expect(resumed.modelId).not.toBe(model.modelId);
  });

  it('is loaded into a living client at its place in the queue', async () => {
    await using model = await newModel();
    await train(model, 1);
    const saved = model.saveState('again');
    const expected = train(model, 2);
    const { path } = await saved;
    await expected;
    const loaded = model.loadStateWithOptimizer(path);
    expect(await train(model, 2)).toEqual(await expected);
    expect(await loaded).toEqual({ path });
    expect(await model.loadState(path)).toEqual({ path });
  });

  it('is there for another engine', async () => {
    await using model = await newModel();
    await train(model, 2);
    const { path } = await model.saveState('kept');
    const expected = await train(model, 1);
    await using another = new ServiceClient();
    await using resumed = await another.createTrainingClientFromStateWithOptimizer(path);
    expect(await train(resumed, 1)).toEqual(expected);
  });

  it('keeps its name to itself, unless told to overwrite', async () => {
    await using model = await newModel();
    await model.saveState('name');
    expect(await rejection(model.saveState('name'))).toBeInstanceOf(ConflictError);
    expect((await model.saveState('name', { overwrite: true })).path).toContain('/weights/name');
    expect(await rejection(model.saveState('a/b'))).toBeInstanceOf(BadRequestError);
  });

  it('that does not fit, or is not there, leaves no model behind', async () => {
    await using model = await newModel();
    const { path } = await model.saveWeightsForSampler('not-a-state');
    const before = await service.stats();
    for (const bad of [path, `tinker://${model.modelId}/weights/none`]) {
      const error = await rejection(service.createTrainingClientFromState(bad));
      expect([BadRequestError, NotFoundError].some((Class) => error instanceof Class)).toBe(true);
    }
    expect(await service.stats()).toMatchObject({ models: before.models, bytes: before.bytes });
  });
});

describe('weights saved for sampling', () => {
  it('sample as a snapshot of the same moment does', async () => {
    await using model = await newModel();
    await train(model, 3);
    const { path } = await model.saveWeightsForSampler('sampler');
    expect(path).toBe(`tinker://${model.modelId}/sampler_weights/sampler`);
    const options = { prompt, samplingParams: { maxTokens: 8, seed: 3 }, topkPromptLogprobs: 2 };
    await using snapshot = await model.saveWeightsAndGetSamplingClient();
    const expected = await snapshot.sample(options);
    await using one = await model.createSamplingClient(path);
    await using two = await service.createSamplingClient({ modelPath: path });
    expect(await one.sample(options)).toEqual(expected);
    expect(await two.sample(options)).toEqual(expected);
    expect(await two.getBaseModel()).toBe(BASE_MODEL);
    expect(await rest.getSampler(two.samplerId)).toEqual({
      samplerId: two.samplerId,
      baseModel: BASE_MODEL,
      modelPath: path,
    });
  });

  it('list the likeliest tokens of a prompt in rows', async () => {
    await using sampler = await service.createSamplingClient({ baseModel: BASE_MODEL });
    const response = await sampler.sample({
      prompt,
      samplingParams: { maxTokens: 1 },
      includePromptLogprobs: true,
      topkPromptLogprobs: 3,
    });
    const { topkPromptLogprobs: topk, promptLogprobs } = response;
    expect([topk!.length, topk!.k, topk!.row(0)]).toEqual([4, 3, null]);
    for (const [i, row] of topk!.toRows().entries()) {
      if (i === 0) continue;
      expect(row!.map(([, logprob]) => logprob)).toEqual(row!.map(([, lp]) => lp).sort((a, b) => b - a));
      const own = row!.find(([id]) => id === prompt.toInts()[i]);
      if (own) expect(own[1]).toBeCloseTo(promptLogprobs![i]!, 4);
      else expect(promptLogprobs![i]).toBeLessThan(row!.at(-1)![1]);
    }
    expect(await rejection(sampler.sample({ prompt, topkPromptLogprobs: 1.5 }))).toBeInstanceOf(
      BadRequestError,
    );
  });
});

describe('runs and checkpoints', () => {
  it('are listed, found by path, and described', async () => {
    const start = Date.now();
    await using model = await newModel();
    const older = await model.saveState('older');
    const newer = await model.saveState('newer', { ttlSeconds: 3600 });
    const sampler = await model.saveWeightsForSampler('sampler');
    const run = await rest.getTrainingRun(model.modelId);
    expect(run).toMatchObject({
      trainingRunId: model.modelId,
      baseModel: BASE_MODEL,
      isLora: true,
      loraRank: 4,
      corrupted: false,
      userMetadata: { goal: 'test' },
      lastCheckpoint: { checkpointId: 'weights/newer', tinkerPath: newer.path, checkpointType: 'training' },
      lastSamplerCheckpoint: { checkpointId: 'sampler_weights/sampler', tinkerPath: sampler.path },
    });
    expect(+run.lastRequestTime).toBeGreaterThanOrEqual(start);
    expect(+run.lastCheckpoint!.time).toBeGreaterThanOrEqual(start);
    const lifetime = +run.lastCheckpoint!.expiresAt! - +run.lastCheckpoint!.time;
    expect(Math.abs(lifetime - 3600_000)).toBeLessThan(5000);
    expect(await rest.getTrainingRunByTinkerPath(sampler.path)).toEqual(run);

    const { checkpoints, cursor } = await rest.listCheckpoints(model.modelId);
    expect(checkpoints.map(({ tinkerPath }) => tinkerPath)).toEqual([sampler.path, newer.path, older.path]);
    expect(checkpoints.every(({ sizeBytes, public: shared }) => sizeBytes > 1000 && !shared)).toBe(true);
    expect(cursor).toBeNull();
    const page = await rest.listUserCheckpoints({ limit: 2, offset: 1 });
    expect(page.checkpoints.map(({ tinkerPath }) => tinkerPath)).toEqual([newer.path, older.path]);
    expect(page.cursor).toMatchObject({ limit: 2, offset: 1 });
    expect(page.cursor!.totalCount).toBeGreaterThanOrEqual(3);
    const runs = await rest.listTrainingRuns({ limit: 1 });
    expect(runs.trainingRuns).toEqual([run]);
    expect(runs.cursor).toMatchObject({ limit: 1, offset: 0 });

    expect(await rest.getWeightsInfoByTinkerPath(older.path)).toEqual({
      baseModel: BASE_MODEL,
      isLora: true,
      loraRank: 4,
      trainAttn: true,
      trainMlp: true,
      trainUnembed: true,
    });
    const usage = await rest.getStorageUsage();
    const own = usage.runs.find(({ trainingRunId }) => trainingRunId === model.modelId)!;
    expect(own.bytes).toBe(checkpoints.reduce((n, { sizeBytes }) => n + sizeBytes, 0));
    expect(usage.bytes).toBeGreaterThanOrEqual(own.bytes);
    expect(usage.kind).toBe((await rest.getServerCapabilities()).storage);
  });

  it('are published, given a time to live, and deleted', async () => {
    await using model = await newModel();
    const { path } = await model.saveState('one');
    const two = await model.saveState('two');
    const one = async () =>
      (await rest.listCheckpoints(model.modelId)).checkpoints.find((c) => c.tinkerPath === path);
    await rest.publishCheckpointFromTinkerPath(path);
    expect(await one()).toMatchObject({ public: true });
    expect(await rejection(rest.publishCheckpointFromTinkerPath(path))).toBeInstanceOf(ConflictError);
    await rest.unpublishCheckpointFromTinkerPath(path);
    expect(await rejection(rest.unpublishCheckpointFromTinkerPath(path))).toMatchObject({ statusCode: 409 });
    await rest.setCheckpointTtlFromTinkerPath(path, 60);
    expect((await one())!.expiresAt).toBeInstanceOf(Date);
    await rest.setCheckpointTtlFromTinkerPath(path, null);
    expect((await one())!.expiresAt).toBeNull();
    expect(await rejection(rest.setCheckpointTtlFromTinkerPath(path, 0))).toBeInstanceOf(BadRequestError);

    await rest.deleteCheckpoint(model.modelId, 'weights/one');
    await rest.deleteCheckpointFromTinkerPath(two.path);
    expect((await rest.listCheckpoints(model.modelId)).checkpoints).toEqual([]);
    expect(await rejection(rest.deleteCheckpointFromTinkerPath(path))).toBeInstanceOf(NotFoundError);
  });

  it('are downloaded as a tar, which comes back as a run of its own', async () => {
    await using model = await newModel();
    await train(model, 2);
    const { path } = await model.saveState('archive');
    const own = service.createRestClient();
    const { url, expires } = await own.getCheckpointArchiveUrlFromTinkerPath(path);
    expect(Math.abs(+expires - Date.now() - 15 * 60_000)).toBeLessThan(5000);
    const tar = await (await fetch(url)).blob();
    const byId = await own.getCheckpointArchiveUrl(model.modelId, 'weights/archive');
    expect((await (await fetch(byId.url)).blob()).size).toBe(tar.size);
    own.dispose();
    expect(await rejection(fetch(url))).toBeInstanceOf(TypeError);
    expect(await rejection(own.listSessions())).toBeInstanceOf(AbortedError);

    const imported = await rest.importCheckpoint(tar, { name: 'copy' });
    expect(imported).toMatchObject({ checkpointId: 'weights/copy', checkpointType: 'training' });
    await using copy = await service.createTrainingClientFromState(imported.tinkerPath);
    const { lossFnOutputs } = await model.forward(data, 'cross_entropy');
    expect((await copy.forward(data, 'cross_entropy')).lossFnOutputs).toEqual(lossFnOutputs);
    const torn = rest.importCheckpoint(tar.slice(0, tar.size / 2), { name: 'torn' });
    expect(await rejection(torn)).toBeInstanceOf(UnprocessableEntityError);
  });

  it('are filed under the session of their client', async () => {
    await using own = new ServiceClient();
    const model = await own.createLoraTrainingClient({ baseModel: BASE_MODEL, rank: 1 });
    const sampler = await model.saveWeightsAndGetSamplingClient();
    const sessions = own.createRestClient();
    const [sessionId] = (await sessions.listSessions({ limit: 1 })).sessions;
    expect(await sessions.getSession(sessionId!)).toEqual({
      sessionId,
      trainingRunIds: [model.modelId],
      samplerIds: [sampler.samplerId],
    });
    await sampler.dispose();
    expect(await rejection(sessions.getSampler(sampler.samplerId))).toBeInstanceOf(NotFoundError);
  });

  it.each<[string, (rest: RestClient) => PromiseLike<unknown>, new (m: string) => Error, string]>([
    ['an unknown run', (r) => r.getTrainingRun('none'), NotFoundError, 'none'],
    ['an unknown session', (r) => r.getSession('none'), NotFoundError, 'none'],
    ['an unknown sampler', (r) => r.getSampler('none'), NotFoundError, 'none'],
    ['checkpoints of no run', (r) => r.listCheckpoints('none'), NotFoundError, 'none'],
    [
      'an unknown path',
      (r) => r.getWeightsInfoByTinkerPath('tinker://r/weights/x'),
      NotFoundError,
      'tinker://r/weights/x',
    ],
    [
      'a malformed path',
      (r) => r.publishCheckpointFromTinkerPath('tinker://r/x'),
      BadRequestError,
      'tinker_path: expected',
    ],
    ['a malformed id', (r) => r.deleteCheckpoint('r', 'x'), BadRequestError, 'checkpoint_id: expected'],
    ['a limit of 0', (r) => r.listTrainingRuns({ limit: 0 }), BadRequestError, 'limit: must be'],
    ['a negative offset', (r) => r.listSessions({ offset: -1 }), BadRequestError, 'offset: must be'],
  ])('refuse %s', async (_, call, Class, message) => {
    const error = await rejection(call(rest));
    expect(error).toBeInstanceOf(Class);
    expect((error as Error).message).toContain(message);
  });
});

it('takes a path apart', () => {
  expect(ParsedCheckpointTinkerPath.fromTinkerPath('tinker://s:train:0/sampler_weights/step-1')).toEqual({
    tinkerPath: 'tinker://s:train:0/sampler_weights/step-1',
    trainingRunId: 's:train:0',
    checkpointType: 'sampler',
    checkpointId: 'sampler_weights/step-1',
  });
  for (const bad of ['', 'weights/x', 'tinker://r/weights', 'tinker://r/other/x', 'tinker://r/weights/a/b']) {
    expect(() => ParsedCheckpointTinkerPath.fromTinkerPath(bad)).toThrow(BadRequestError);
  }
});
