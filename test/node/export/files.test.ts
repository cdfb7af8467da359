/** The folder of an exported model: its files, its graph's inputs and outputs, weights beside the graph. */
import { fromBinary } from '@bufbuild/protobuf';
import { execFileSync, spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { ProgressEvent } from '../../../src/api/contract/types';
import { mergedTensors } from '../../../src/engine/exporter';
import { exportDecoder } from '../../../src/export/export-decoder';
import { ModelProtoSchema, TensorProto_DataLocation, type TensorProto } from '../../../src/onnx/onnx_pb';
import { exportedFolder, Fixture, MODELS, type ExportedFolder } from '../support/export-fixture';
import { OnnxModel } from '../support/onnx-model';

const folders: string[] = [];
afterAll(() => folders.forEach((folder) => rmSync(folder, { recursive: true, force: true })));

const kept = async (made: Promise<ExportedFolder>): Promise<ExportedFolder> => {
  folders.push((await made).folder);
  return made;
};

async function initializers(files: ReadonlyMap<string, Blob>): Promise<Map<string, TensorProto>> {
  const bytes = new Uint8Array(await files.get('onnx/model.onnx')!.arrayBuffer());
  const { graph } = fromBinary(ModelProtoSchema, bytes);
  return new Map(graph!.initializer.map((tensor) => [tensor.name, tensor]));
}

const json = async (files: ReadonlyMap<string, Blob>, path: string): Promise<Record<string, unknown>> =>
  JSON.parse(await files.get(path)!.text()) as Record<string, unknown>;

let tied: Fixture;
beforeAll(async () => {
  tied = await Fixture.load('tied');
});

test('inputs and outputs have the names, types and shapes of text generation', async () => {
  const { folder } = await kept(exportedFolder(tied.model, tied.source()));
  const model = await OnnxModel.load(folder);

  const cache = (prefix: string, length: string) =>
    Array.from({ length: 2 }, (_, i) => ['key', 'value'].map((part) => `${prefix}.${i}.${part}`))
      .flat()
      .map((name): [string, unknown] => [name, ['float32', 'batch_size', 2, length, 12]]);
  expect(model.ports).toEqual({
    inputs: {
      input_ids: ['int64', 'batch_size', 'sequence_length'],
      attention_mask: ['int64', 'batch_size', 'total_sequence_length'],
      position_ids: ['int64', 'batch_size', 'sequence_length'],
      ...Object.fromEntries(cache('past_key_values', 'past_sequence_length')),
    },
    outputs: {
      logits: ['float32', 'batch_size', 'sequence_length', 128],
      ...Object.fromEntries(cache('present', 'total_sequence_length')),
    },
  });
  await model.dispose();
});

test('config and tokenizer are those of the base model, but for what the export has made of it', async () => {
  const { files } = await kept(exportedFolder(tied.model, tied.source(null)));
  expect([...files.keys()]).toEqual([
    'config.json',
    'generation_config.json',
    'tokenizer.json',
    'tokenizer_config.json',
    'onnx/model.onnx',
  ]);
  expect(await json(files, 'config.json')).toEqual({
    ...(tied.model.configJson as object),
    architectures: ['LlamaForCausalLM'],
    dtype: 'float32',
    tie_word_embeddings: true,
    'transformers.js_config': { dtype: 'fp32' },
  });
  expect(await json(files, 'generation_config.json')).toEqual({ eos_token_id: 38 });
  expect(await json(files, 'tokenizer.json')).toEqual(tied.model.tokenizer.tokenizerJson);
  expect(await json(files, 'tokenizer_config.json')).toEqual(tied.model.tokenizer.tokenizerConfig);
});

test('tied embeddings are one tensor until an adapter of the unembedding makes them differ', async () => {
  const { layout, params } = tied.adapter;
  const unembedding = layout.parameters.find(({ name }) => name === 'lm_head.lora_B')!;
  const { offset, shape } = unembedding;
  const untouched = params.slice().fill(0, offset, offset + shape[0] * shape[1]);
  for (const [adapter, expected] of [
    [null, true],
    [{ layout, params: untouched }, true],
    [{ layout, params }, false],
  ] as const) {
    const { files } = await kept(exportedFolder(tied.model, tied.source(adapter)));
    expect((await initializers(files)).has('lm_head.weight')).toBe(!expected);
    expect((await json(files, 'config.json')).tie_word_embeddings).toBe(expected);
  }
});

test('weights over the limit lie in files of at most so many bytes beside the graph, which computes the same', async () => {
  const inside = await kept(exportedFolder(tied.model, tied.source()));
  const ids = [tied.expected.batch.at(-2)!.tokens];
  const reference = await OnnxModel.load(inside.folder);
  const { logits } = await reference.run({ ids });
  await reference.dispose();

  const dataFileBytes = 40_000;
  for (const [options, count] of [
    [{ inlineBytes: 0 }, 1],
    [{ inlineBytes: 0, dataFileBytes }, 7],
  ] as const) {
    const { files, folder } = await kept(exportedFolder(tied.model, tied.source(), options));
    const names = [...files.keys()].filter((path) => path.includes('_data'));
    const suffixes = ['', '_1', '_2', '_3', '_4', '_5', '_6'].slice(0, count);
    expect(names).toEqual(suffixes.map((suffix) => `onnx/model.onnx_data${suffix}`));
    if (count > 1) for (const name of names) expect(files.get(name)!.size).toBeLessThanOrEqual(dataFileBytes);
    expect((await json(files, 'config.json'))['transformers.js_config']).toEqual({
      dtype: 'fp32',
      use_external_data_format: { 'model.onnx': count },
    });
    for (const [name, { dataLocation, rawData, externalData }] of await initializers(files)) {
      if (name.startsWith('const_')) continue;
      expect(dataLocation, name).toBe(TensorProto_DataLocation.EXTERNAL);
      expect(rawData, name).toHaveLength(0);
      expect(Number(externalData.find(({ key }) => key === 'offset')!.value) % 4096, name).toBe(0);
    }
    const model = await OnnxModel.load(folder);
    expect((await model.run({ ids })).logits).toEqual(logits);
    await model.dispose();
  }
  // the limit itself is still inside
  const weights = [...(await initializers(inside.files))].filter(([name]) => !name.startsWith('const_'));
  const bytes = weights.reduce((n, [, { rawData }]) => n + rawData.length, 0);
  for (const [inlineBytes, beside] of [
    [bytes, false],
    [bytes - 1, true],
  ] as const) {
    const { files } = await kept(exportedFolder(tied.model, tied.source(), { inlineBytes }));
    expect(files.has('onnx/model.onnx_data')).toBe(beside);
  }
});

test('progress counts every weight; what stops between weights stops the export', async () => {
  const events: ProgressEvent[] = [];
  await kept(exportedFolder(tied.model, tied.source(null), { onProgress: (event) => events.push(event) }));
  const total = 2 * 9 + 3;
  expect(events).toEqual(
    Array.from({ length: total + 1 }, (_, loaded) => ({ phase: 'export', what: 'tied', loaded, total })),
  );

  let pauses = 0;
  const stop = async (): Promise<void> => {
    if (++pauses === 5) throw new Error('stopped');
  };
  const source = tied.source();
  await expect(
    exportDecoder({ ...tied.model, tied: false, weights: mergedTensors(source, stop) }),
  ).rejects.toThrow('stopped');
  expect(pauses).toBe(5);
});

test('a weight that is missing, unknown or of another size is named', async () => {
  const weights = (change: (name: string) => readonly [string, number]) =>
    (async function* () {
      for await (const { name, data } of mergedTensors(tied.source(null), async () => undefined)) {
        const [as, length] = change(name);
        yield { name: as, data: data.slice(0, data.length - length) };
      }
    })();
  const attempt = (change: (name: string) => readonly [string, number]) =>
    exportDecoder({ ...tied.model, tied: true, weights: weights(change) });
  await expect(attempt((name) => [name.replace('norm.weight', 'norm'), 0])).rejects.toThrow(
    /no weight model\..*norm$/,
  );
  await expect(attempt((name) => [name, name === 'rope_table' ? 1 : 0])).rejects.toThrow(
    /^rope_table has 1535 /,
  );
  const twice = (name: string) => (name === 'rope_table' ? 'model.embed_tokens.weight' : name);
  await expect(attempt((name) => [twice(name), 0])).rejects.toThrow();
});

const python = process.env.WEBTINKER_PYTHON ?? 'python3';
const found = spawnSync(python, ['-c', 'import onnx'], { stdio: 'ignore' }).status === 0;

// not `skipIf`: a run in which a test was skipped counts as failed, and Python is no part of this package
if (!found) {
  console.warn(
    `NOT RUN: exported models in onnx.checker. '${python}' has no onnx; name one that has in WEBTINKER_PYTHON.`,
  );
} else {
  test('onnx.checker finds nothing wrong, and infers the shapes of the outputs', async () => {
    const paths: string[] = [];
    for (const name of MODELS) {
      const fixture = await Fixture.load(name);
      for (const inlineBytes of [0, undefined]) {
        const { folder } = await kept(exportedFolder(fixture.model, fixture.source(), { inlineBytes }));
        paths.push(join(folder, 'onnx/model.onnx'));
      }
    }
    const script = fileURLToPath(new URL('../../python/check_onnx.py', import.meta.url));
    const shapes = JSON.parse(execFileSync(python, [script, ...paths]).toString()) as Record<
      string,
      unknown
    >[];
    expect(shapes).toHaveLength(paths.length);
    for (const { logits } of shapes)
      expect(logits).toEqual(['batch_size', 'sequence_length', expect.any(Number)]);
  });
}
