/** Adapters that Python's peft made, imported into the real engine; see `test/fixtures/peft/make_adapters.py`. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BadRequestError } from '../../src/api/contract/errors';
import type { Engine } from '../../src/engine/engine';
import { crossEntropy, datum, LORA, openEngine, sessionOf } from '../support/engine';

interface Expected {
  readonly model: string;
  readonly batch: readonly { readonly tokens: number[]; readonly targets: number[] }[];
  /** log-probabilities of the targets, per datum */
  readonly base: readonly number[][];
  readonly adapted: readonly number[][];
}

async function read(path: string): Promise<Blob> {
  const response = await fetch(`/test/fixtures/peft/${path}`);
  if (!response.ok) throw new Error(`${path}: HTTP ${response.status}`);
  return response.blob();
}

/** The largest difference between log-probabilities. */
function gap(actual: readonly ArrayLike<number>[], expected: readonly number[][]): number {
  const differences = expected.flatMap((row, i) => row.map((x, j) => Math.abs(x - actual[i]![j]!)));
  expect(actual.map(({ length }) => length)).toEqual(expected.map(({ length }) => length));
  return Math.max(...differences);
}

let engine: Engine;
beforeAll(async () => {
  engine = await openEngine();
});
afterAll(() => engine.dispose());

describe.each([
  ['few-modules', { ...LORA, rank: 4, trainMlp: false, trainUnembed: false }],
  ['all-rslora', { ...LORA, rank: 8 }],
])('%s', (name, lora) => {
  it('gives the log-probabilities that peft computes', async () => {
    const expected = JSON.parse(await (await read(`${name}/expected.json`)).text()) as Expected;
    const files = ['adapter_config.json', 'adapter_model.safetensors'];
    const source = Object.fromEntries(
      await Promise.all(files.map(async (file) => [file, await read(`${name}/${file}`)] as const)),
    );
    const sessionId = await sessionOf(engine);
    const request = { sessionId, source, name: 'imported', baseModel: null };
    const { tinkerPath: path } = await engine.importCheckpoint(request);
    const { rank, seed: _seed, ...parts } = lora;
    expect(await engine.getWeightsInfo(path)).toEqual({
      baseModel: expected.model,
      isLora: true,
      loraRank: rank,
      ...parts,
    });

    const model = { sessionId, baseModel: expected.model, lora, userMetadata: {} };
    const { modelId } = await engine.createModel(model);
    const data = expected.batch.map(({ tokens, targets }) => datum(tokens, targets));
    const before = await crossEntropy(engine, modelId, data, true);
    expect(gap(before.logprobs, expected.base), 'before').toBeLessThan(1e-4);
    await expect(engine.loadWeights({ modelId, path, optimizer: true })).rejects.toBeInstanceOf(
      BadRequestError,
    );
    await engine.loadWeights({ modelId, path, optimizer: false });
    const after = await crossEntropy(engine, modelId, data, true);
    expect(gap(after.logprobs, expected.adapted), 'after').toBeLessThan(1e-4);
  });
});
