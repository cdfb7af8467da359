/** The models of test/fixtures with their adapters, exported to folders. */
import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { expect } from 'vitest';
import { mergedTensors, staysTied, type WeightSource } from '../../../src/engine/exporter';
import { adapterLayout } from '../../../src/engine/program/adapter';
import { stackWeights } from '../../../src/engine/program/weights';
import { exportDecoder, type ExportOptions } from '../../../src/export/export-decoder';
import { loadModel, type LoadedModel } from '../../../src/models/load';
import { parseSafetensors } from '../../../src/models/safetensors';
import { writeFiles } from './onnx-model';

export const MODELS = ['untied', 'tied', 'grouped-odd', 'llama3-rope', 'wide-heads'] as const;

/** The folder of a fixture. */
export const fixtureFolder = (name: string): string =>
  fileURLToPath(new URL(`../../fixtures/models/${name}`, import.meta.url));

export interface Expected {
  readonly rank: number;
  readonly batch: readonly { readonly tokens: number[]; readonly targets: number[] }[];
  readonly logprobs: readonly number[][];
  readonly greedy: Record<'base' | 'adapted', { prompt: number[]; tokens: number[]; logprobs: number[] }>;
}

/** A fixture's model and adapter, as an engine would hold them. */
export class Fixture {
  private constructor(
    readonly model: LoadedModel,
    readonly expected: Expected,
    readonly adapter: NonNullable<WeightSource['adapter']>,
  ) {}

  static async load(name: string): Promise<Fixture> {
    const at = fixtureFolder(name);
    const model = await loadModel(name, {
      modelSources: { [name]: pathToFileURL(at).href },
      fetch: async (url) => new Response(readFileSync(url as URL)),
    });
    const expected = JSON.parse(readFileSync(join(at, 'expected.json'), 'utf8')) as Expected;
    const shape = { rank: expected.rank, trainAttn: true, trainMlp: true, trainUnembed: true };
    const layout = adapterLayout(model.config, shape);
    const params = new Float32Array(layout.length);
    const bytes = new Uint8Array(readFileSync(join(at, 'adapter.safetensors')));
    const { tensors } = parseSafetensors(bytes.buffer);
    for (const { name, offset } of layout.parameters) params.set(tensors.get(name)!.data, offset);
    return new Fixture(model, expected, { layout, params });
  }

  /** @param adapter null: the base model alone */
  source(adapter: WeightSource['adapter'] = this.adapter): WeightSource {
    const { config, tensors } = this.model;
    const read: WeightSource['read'] = async (name, elements) => {
      for (const weight of stackWeights(config, tensors)) {
        if (weight.name !== name) continue;
        const whole = new Float32Array(weight.parts.flatMap((part) => [...part]));
        expect(whole, name).toHaveLength(elements);
        return whole;
      }
      throw new Error(`no tensor ${name}`);
    };
    return { config, read, adapter };
  }
}

const nothing = async (): Promise<void> => undefined;

export interface ExportedFolder {
  readonly files: ReadonlyMap<string, Blob>;
  /** a new one with the files; the caller deletes it */
  readonly folder: string;
}

export async function exportedFolder(
  model: LoadedModel,
  source: WeightSource,
  options: Partial<ExportOptions> = {},
): Promise<ExportedFolder> {
  const files = await exportDecoder({
    ...model,
    tied: staysTied(source),
    weights: mergedTensors(source, nothing),
    ...options,
  });
  const folder = mkdtempSync(join(tmpdir(), 'webtinker-export-'));
  await writeFiles(folder, files);
  return { files, folder };
}
