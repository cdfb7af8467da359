/** Saving, resuming, loading and sampling from checkpoints, on the real engine. */
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { SaveWeightsRequest } from '../../src/api/contract/backend';
import {
  BadRequestError,
  ConflictError,
  NotFoundError,
  StorageError,
  StorageFullError,
  UnprocessableEntityError,
} from '../../src/api/contract/errors';
import type { AdamParamsPayload, LoraConfigPayload } from '../../src/api/contract/types';
import { Catalog } from '../../src/checkpoints/catalog';
import { MemoryStore } from '../../src/checkpoints/memory-store';
import type { Store } from '../../src/checkpoints/store';
import { type Engine } from '../../src/engine/engine';
import { writeSafetensors } from '../../src/models/safetensors';
import { FullStore } from '../checkpoints/support/full-store';
import {
  createModel,
  createSampler,
  crossEntropy,
  GREEDY,
  loadFixture,
  LORA,
  openEngine,
  sessionOf,
  type Fixture,
} from '../support/engine';

const ADAM: AdamParamsPayload = {
  learningRate: 1e-2,
  beta1: 0.9,
  beta2: 0.95,
  eps: 1e-12,
  weightDecay: 0.01,
  gradClipNorm: 1,
};

let fixture: Fixture;
const opened: Engine[] = [];

beforeAll(async () => {
  fixture = await loadFixture('tied');
});
afterEach(() => Promise.all(opened.splice(0).map((engine) => engine.dispose())));

async function open(store: Store = new MemoryStore()): Promise<Engine> {
  const engine = await openEngine({ store });
  opened.push(engine);
  return engine;
}

/** Steps submitted one behind the other; their losses. */
async function train(engine: Engine, modelId: string, steps: number): Promise<number[]> {
  const all = Array.from({ length: steps }, (_, i) => {
    const rotated = [...fixture.batch.slice(i % 3), ...fixture.batch.slice(0, i % 3)];
    const pass = crossEntropy(engine, modelId, rotated);
    return Promise.all([pass, engine.optimStep({ modelId, adamParams: ADAM })]);
  });
  return (await Promise.all(all)).map(([{ loss }]) => loss);
}

const save = (
  engine: Engine,
  modelId: string,
  name: string,
  more: Partial<SaveWeightsRequest> = {},
): Promise<string> =>
  engine
    .saveWeights({ modelId, name, checkpointType: 'training', ttlSeconds: null, overwrite: false, ...more })
    .then(({ path }) => path);

const saveSampler = (engine: Engine, modelId: string, name: string): Promise<string> =>
  save(engine, modelId, name, { checkpointType: 'sampler' });

const load = (engine: Engine, modelId: string, path: string, optimizer: boolean): Promise<unknown> =>
  engine.loadWeights({ modelId, path, optimizer });

/** A model like the fixture's, of another seed. */
async function fresh(engine: Engine, lora: Partial<LoraConfigPayload> = {}, base = 'tied'): Promise<string> {
  const sessionId = await sessionOf(engine);
  const config = { ...LORA, rank: fixture.rank, seed: 99, ...lora };
  return (await engine.createModel({ sessionId, baseModel: base, lora: config, userMetadata: {} })).modelId;
}

const state = async (engine: Engine, modelId: string): Promise<unknown> => [
  await engine.debugGetAdapter(modelId),
  await engine.debugGetGradients(modelId),
];

describe('a run that is resumed', () => {
  it('goes on bit for bit in another engine, also from the midst of pipelined steps', async () => {
    const store = new MemoryStore();
    const first = await open(store);
    const run = await createModel(first, fixture);
    void train(first, run, 5);
    // neither waits for the other: what is saved is what was there in between
    const saved = save(first, run, 'five');
    const losses = await train(first, run, 10);
    const adapter = await first.debugGetAdapter(run);
    const path = await saved;
    expect(path).toBe(`tinker://${run}/weights/five`);

    const second = await open(store);
    const resumed = await fresh(second);
    await load(second, resumed, path, true);
    expect(await train(second, resumed, 10)).toEqual(losses);
    expect(await second.debugGetAdapter(resumed)).toEqual(adapter);

    // without the optimizer the same adapter, and moments that restart
    const restarted = await fresh(second);
    void load(second, restarted, path, false);
    const others = await train(second, restarted, 10);
    expect(others[0]).toBe(losses[0]);
    expect(others.slice(2)).not.toEqual(losses.slice(2));
    const twin = await fresh(second);
    await train(second, twin, 2);
    await load(second, twin, path, false);
    expect(await train(second, twin, 10)).toEqual(others);
  });

  it('loses the gradients that were pending', async () => {
    const engine = await open();
    const run = await createModel(engine, fixture);
    const path = await save(engine, run, 'start');
    const alone = await train(engine, run, 2);
    await crossEntropy(engine, run, fixture.batch);
    await load(engine, run, path, true);
    expect([...(await engine.debugGetGradients(run)).values()].every((g) => g.every((x) => x === 0))).toBe(
      true,
    );
    expect(await train(engine, run, 2)).toEqual(alone);
  });

  it('may be loaded while it is being saved', async () => {
    const engine = await open();
    const run = await createModel(engine, fixture);
    await train(engine, run, 2);
    const adapter = await engine.debugGetAdapter(run);
    const saved = save(engine, run, 'now');
    void train(engine, run, 2);
    await load(engine, run, `tinker://${run}/weights/now`, false);
    expect(await engine.debugGetAdapter(run)).toEqual(adapter);
    await saved;
  });
});

describe('loading refuses', () => {
  it('what does not fit, says what differs, and changes nothing', async () => {
    const engine = await open();
    const run = await createModel(engine, fixture);
    await train(engine, run, 1);
    const paths = {
      good: await save(engine, run, 'good'),
      sampler: await saveSampler(engine, run, 'good'),
      rank: await save(engine, await fresh(engine, { rank: fixture.rank * 2 }), 'a'),
      flags: await save(engine, await fresh(engine, { trainUnembed: false }), 'a'),
      base: await save(engine, await fresh(engine, {}, 'untied'), 'a'),
    };
    await crossEntropy(engine, run, fixture.batch);
    const before = await state(engine, run);
    const refused = async (path: string, type: typeof BadRequestError, message: RegExp): Promise<void> => {
      const loading = load(engine, run, path, true);
      await expect(loading).rejects.toThrow(type);
      await expect(loading).rejects.toThrow(message);
      expect(await state(engine, run)).toEqual(before);
    };
    await refused(paths.sampler, BadRequestError, /sampler checkpoint/);
    await refused(paths.rank, BadRequestError, new RegExp(`lora_rank ${fixture.rank * 2}.*${fixture.rank}`));
    await refused(paths.flags, BadRequestError, /train_unembed false.*train_unembed true/);
    await refused(paths.base, BadRequestError, /base_model untied.*base_model tied/);
    await refused(`${paths.good}-not`, NotFoundError, /good-not/);
    await refused('tinker://nothing', BadRequestError, /path/);
    // and the run goes on
    await engine.optimStep({ modelId: run, adamParams: ADAM });
    await load(engine, run, paths.good, true);
  });
});

describe('two saves to one name', () => {
  it('the second is a conflict, also while the first is under way', async () => {
    const engine = await open();
    const run = await createModel(engine, fixture);
    const first = save(engine, run, 'same');
    await train(engine, run, 1);
    const second = save(engine, run, 'same');
    await expect(second).rejects.toThrow(ConflictError);
    await first;
    await expect(save(engine, run, 'same')).rejects.toThrow(ConflictError);
    // of another type it is another path
    await saveSampler(engine, run, 'same');
    expect((await engine.listCheckpoints(run)).checkpoints).toHaveLength(2);
  });

  it('the last to overwrite is there', async () => {
    const engine = await open();
    const run = await createModel(engine, fixture);
    const saves = [save(engine, run, 'same')];
    for (let i = 0; i < 3; i++) {
      void train(engine, run, 1);
      saves.push(save(engine, run, 'same', { overwrite: true }));
    }
    const adapter = await engine.debugGetAdapter(run);
    const [path] = await Promise.all(saves);
    await train(engine, run, 1);
    await load(engine, run, path!, true);
    expect(await engine.debugGetAdapter(run)).toEqual(adapter);
    expect((await engine.listCheckpoints(run)).checkpoints).toHaveLength(1);
  });

  it('bad names are refused before anything is copied', async () => {
    const engine = await open();
    const run = await createModel(engine, fixture);
    const { submits } = await engine.stats();
    for (const name of ['', 'a/b', '..']) {
      await expect(save(engine, run, name)).rejects.toThrow(BadRequestError);
    }
    expect((await engine.stats()).submits).toBe(submits);
  });
});

describe('a sampler of a checkpoint', () => {
  const greedy = async (engine: Engine, samplerId: string): Promise<unknown> => {
    const { prompt } = fixture.greedy.adapted;
    const request = { samplerId, prompt, numSamples: 1, promptLogprobs: true, topkPromptLogprobs: 0 };
    const { sequences, promptLogprobs } = await engine.sample({ ...request, params: GREEDY });
    return { sequences, promptLogprobs };
  };

  it.each([{}, { rank: 8, trainAttn: false }, { trainUnembed: false }])(
    'samples what a snapshot of that moment does: %o',
    async (lora) => {
      const store = new MemoryStore();
      const first = await open(store);
      const run = await fresh(first, lora);
      await train(first, run, 3);
      const saved = saveSampler(first, run, 'three');
      const snapshot = await createSampler(first, { modelId: run });
      await train(first, run, 2);
      const expected = await greedy(first, snapshot);
      const modelPath = await saved;

      for (const engine of [first, await open(store)]) {
        const sessionId = await sessionOf(engine);
        const info = await engine.createSampler({ kind: 'checkpoint', sessionId, modelPath });
        expect(info).toMatchObject({ baseModel: 'tied', modelPath });
        expect(await engine.getSampler(info.samplerId)).toEqual(info);
        expect(await greedy(engine, info.samplerId)).toEqual(expected);
      }
    },
  );

  it('is not made of a training checkpoint, nor of none', async () => {
    const engine = await open();
    const run = await createModel(engine, fixture);
    const sessionId = await sessionOf(engine);
    const of = (modelPath: string): Promise<unknown> =>
      engine.createSampler({ kind: 'checkpoint', sessionId, modelPath });
    const path = await save(engine, run, 'state');
    await expect(of(path)).rejects.toThrow(BadRequestError);
    await expect(of(path)).rejects.toThrow(/sampler_weights/);
    await expect(of(path.replace('weights', 'sampler_weights'))).rejects.toThrow(NotFoundError);
    expect((await engine.stats()).samplers).toBe(0);
  });
});

describe('what is filed', () => {
  it('sessions, runs and checkpoints are listed, also by the next engine', async () => {
    const store = new MemoryStore();
    const first = await open(store);
    const { sessionId } = await first.createSession({ userMetadata: { who: 'me' } });
    const { modelId } = await first.createModel({
      sessionId,
      baseModel: 'tied',
      lora: LORA,
      userMetadata: { purpose: 'test' },
    });
    expect(modelId).toBe(`${sessionId}:train:0`);
    const path = await save(first, modelId, 'a', { ttlSeconds: 3600 });
    const sampler = await first.createSampler({ kind: 'base', sessionId, baseModel: 'tied' });
    expect(sampler.samplerId).toBe(`${sessionId}:sample:0`);
    const made = await first.getTrainingRun(modelId);
    await train(first, modelId, 1);
    const later = await first.getTrainingRun(modelId);
    expect(Date.parse(later.lastRequestTime)).toBeGreaterThan(Date.parse(made.lastRequestTime));
    expect(await first.getSession(sessionId)).toEqual({
      sessionId,
      trainingRunIds: [modelId],
      samplerIds: [sampler.samplerId],
    });

    const second = await open(store);
    const page = { limit: 10, offset: 0 };
    expect(await second.listSessions(page)).toContain(sessionId);
    expect((await second.getSession(sessionId)).samplerIds).toEqual([]);
    const { trainingRuns } = await second.listTrainingRuns(page);
    expect(trainingRuns).toMatchObject([
      {
        trainingRunId: modelId,
        baseModel: 'tied',
        loraRank: 4,
        userMetadata: { purpose: 'test' },
        lastCheckpoint: { tinkerPath: path },
        lastSamplerCheckpoint: null,
      },
    ]);
    expect(await second.getWeightsInfo(path)).toEqual({
      baseModel: 'tied',
      isLora: true,
      loraRank: 4,
      trainAttn: true,
      trainMlp: true,
      trainUnembed: true,
    });
    await second.setCheckpointTtl(path, null);
    await second.setCheckpointPublic(path, true);
    await expect(second.setCheckpointPublic(path, true)).rejects.toThrow(ConflictError);
    const { checkpoints } = await second.listUserCheckpoints(page);
    expect(checkpoints).toMatchObject([{ tinkerPath: path, public: true, expiresAt: null }]);
    expect((await second.getStorageUsage()).runs).toEqual([
      { trainingRunId: modelId, bytes: checkpoints[0]!.sizeBytes },
    ]);
    await second.deleteCheckpoint(path);
    await expect(second.getWeightsInfo(path)).rejects.toThrow(NotFoundError);
  });

  it('a run stays when its model goes, unless it has done nothing', async () => {
    const engine = await open();
    const [used, failed, idle] = [await fresh(engine), await fresh(engine), await fresh(engine)];
    const path = await save(engine, used, 'a');
    await expect(load(engine, failed, `${path}x`, true)).rejects.toThrow(NotFoundError);
    const runs = async (): Promise<string[]> => {
      const { trainingRuns } = await engine.listTrainingRuns({ limit: 10, offset: 0 });
      return trainingRuns.map(({ trainingRunId }) => trainingRunId);
    };
    expect(new Set(await runs())).toEqual(new Set([used, failed, idle]));
    for (const run of [used, failed, idle]) await engine.unloadModel(run);
    expect(await runs()).toEqual([used]);
  });

  it('an archive comes back as a training checkpoint of a run of its own', async () => {
    const engine = await open();
    const run = await createModel(engine, fixture);
    const path = await saveSampler(engine, run, 'out');
    const archive = await engine.getCheckpointArchive(path);
    if (archive.kind !== 'blob') expect.fail('no blob');
    const sessionId = await sessionOf(engine);
    const request = { sessionId, source: archive.blob, name: 'in', baseModel: null };
    const stranger = engine.importCheckpoint({ ...request, sessionId: 'nobody' });
    await expect(stranger).rejects.toThrow(NotFoundError);
    const { tinkerPath } = await engine.importCheckpoint(request);
    const copy = await fresh(engine);
    await load(engine, copy, tinkerPath, false);
    expect(await engine.debugGetAdapter(copy)).toEqual(await engine.debugGetAdapter(run));
    await expect(load(engine, copy, tinkerPath, true)).rejects.toThrow(BadRequestError);
  });
});

/** A store whose files are damaged on the way back, once it is told to. */
class DamagingStore extends MemoryStore {
  damaged = false;

  override async readFile(folder: string, name: string): Promise<Blob | undefined> {
    const file = await super.readFile(folder, name);
    return file && this.damaged && name.endsWith('.safetensors') ? file.slice(0, file.size - 4) : file;
  }
}

describe('a store that fails', () => {
  it('by damage: loading is refused and changes nothing', async () => {
    const store = new DamagingStore();
    const engine = await open(store);
    const run = await createModel(engine, fixture);
    const path = await save(engine, run, 'a');
    const modelPath = await saveSampler(engine, run, 'a');
    await crossEntropy(engine, run, fixture.batch);
    const before = await state(engine, run);
    store.damaged = true;
    await expect(load(engine, run, path, true)).rejects.toThrow(UnprocessableEntityError);
    const sessionId = await sessionOf(engine);
    const sampler = engine.createSampler({ kind: 'checkpoint', sessionId, modelPath });
    await expect(sampler).rejects.toThrow(UnprocessableEntityError);
    expect(await state(engine, run)).toEqual(before);
    store.damaged = false;
    await load(engine, run, path, true);
  });

  it('for lack of room: earlier checkpoints and the run are as they were', async () => {
    const room = new FullStore(new MemoryStore(), 400_000);
    const engine = await open(room.store);
    const run = await createModel(engine, fixture);
    const paths: string[] = [];
    let full: unknown;
    for (let i = 0; !full && i < 50; i++) {
      await save(engine, run, String(i)).then(
        (path) => paths.push(path),
        (error: unknown) => (full = error),
      );
    }
    expect(full).toBeInstanceOf(StorageFullError);
    expect(paths.length).toBeGreaterThan(0);
    await train(engine, run, 1);
    await load(engine, run, paths.at(-1)!, true);
    const { checkpoints } = await engine.listCheckpoints(run);
    expect(checkpoints.map(({ tinkerPath }) => tinkerPath).sort()).toEqual(paths.sort());
    // what makes room works, too
    await engine.deleteCheckpoint(paths[0]!);
    expect((await engine.listUserCheckpoints({ limit: 9, offset: 0 })).checkpoints).not.toHaveLength(0);
  });
});

it('an imported adapter that leaves matrices out has fresh ones there, and another scale in B', async () => {
  const engine = await open();
  const [rank, size] = [4, 48];
  const matrix = (shape: [number, number], of: number) => ({
    shape,
    data: Float32Array.from({ length: shape[0] * shape[1] }, (_, i) => Math.sin(of + i)),
  });
  const [a, b] = [matrix([rank, size], 1), matrix([size, rank], 2)];
  const key = 'base_model.model.model.layers.0.self_attn.q_proj';
  const file = writeSafetensors(
    new Map([
      [`${key}.lora_A.weight`, a],
      [`${key}.lora_B.weight`, b],
    ]),
  );
  const config = { peft_type: 'LORA', r: rank, lora_alpha: 16, target_modules: ['q_proj'] };
  const { tinkerPath } = await engine.importCheckpoint({
    sessionId: await sessionOf(engine),
    source: {
      'adapter_config.json': new Blob([JSON.stringify(config)]),
      'adapter_model.safetensors': new Blob([file]),
    },
    name: 'q',
    baseModel: 'tied',
  });
  expect(await engine.getWeightsInfo(tinkerPath)).toMatchObject({ loraRank: rank, trainMlp: false });
  const model = await fresh(engine, { rank, trainMlp: false, trainUnembed: false });
  const untouched = await engine.debugGetAdapter(model);
  await train(engine, model, 2);
  await load(engine, model, tinkerPath, false);
  const expected = new Map(untouched);
  expected.set('layers.0.self_attn.q_proj.lora_A', a.data);
  expected.set(
    'layers.0.self_attn.q_proj.lora_B',
    b.data.map((x) => x / 2),
  );
  expect(await engine.debugGetAdapter(model)).toEqual(expected);
});

describe('without storage', () => {
  it('training goes on; what needs storage fails, and works again when it is back', async () => {
    const store = new MemoryStore();
    let broken = true;
    const plain = await open();
    const engine = await openEngine({
      storage: {
        kind: 'opfs',
        open: async () => {
          if (broken) throw new StorageError('the disk is gone');
          return Catalog.open(store);
        },
      },
    });
    opened.push(engine);
    const run = await createModel(engine, fixture);
    const twin = await createModel(plain, fixture);
    expect(await train(engine, run, 2)).toEqual(await train(plain, twin, 2));
    await createSampler(engine, { modelId: run });
    await expect(save(engine, run, 'a')).rejects.toThrow(StorageError);
    await expect(engine.listTrainingRuns({ limit: 1, offset: 0 })).rejects.toThrow('the disk is gone');
    expect((await engine.getServerCapabilities()).storage).toBe('opfs');
    expect(await train(engine, run, 2)).toEqual(await train(plain, twin, 2));
    broken = false;
    await save(engine, run, 'a');
    expect((await engine.listTrainingRuns({ limit: 1, offset: 0 })).trainingRuns).toHaveLength(1);
  });
});
