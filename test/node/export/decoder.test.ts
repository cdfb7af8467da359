/** Exported graphs in onnxruntime-node, against what transformers + peft computed from the same weights. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { mergedTensors, staysTied, type WeightSource } from '../../../src/engine/exporter';
import { adapterLayout } from '../../../src/engine/program/adapter';
import { stackWeights } from '../../../src/engine/program/weights';
import { exportDecoder, type ExportOptions } from '../../../src/export/export-decoder';
import { loadModel, type LoadedModel } from '../../../src/models/load';
import { parseSafetensors } from '../../../src/models/safetensors';
import { expectClose } from '../../support/compare';
import { argmax, logprob, OnnxModel, writeFiles } from '../support/onnx-model';

const MODELS = ['untied', 'tied', 'grouped-odd', 'llama3-rope', 'wide-heads'] as const;
const fixtures = fileURLToPath(new URL('../../fixtures/models/', import.meta.url));

interface Expected {
  readonly rank: number;
  readonly batch: readonly { readonly tokens: number[]; readonly targets: number[] }[];
  readonly logprobs: readonly number[][];
  readonly greedy: Record<'base' | 'adapted', { prompt: number[]; tokens: number[]; logprobs: number[] }>;
}

/** A fixture's model and adapter, as an engine would hold them. */
class Fixture {
  private constructor(
    readonly model: LoadedModel,
    readonly expected: Expected,
    readonly adapter: NonNullable<WeightSource['adapter']>,
  ) {}

  static async load(name: string): Promise<Fixture> {
    const at = join(fixtures, name);
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

const roots: string[] = [];
afterAll(() => roots.forEach((root) => rmSync(root, { recursive: true, force: true })));

const nothing = async (): Promise<void> => undefined;

interface Exported {
  readonly files: ReadonlyMap<string, Blob>;
  readonly folder: string;
  readonly model: OnnxModel;
}

/** Exports, writes the folder, loads it. */
async function exported(
  { model }: Fixture,
  source: WeightSource,
  options: Partial<ExportOptions> = {},
): Promise<Exported> {
  const files = await exportDecoder({
    ...model,
    configJson: model.configJson,
    tied: staysTied(source),
    weights: mergedTensors(source, nothing),
    ...options,
  });
  const folder = mkdtempSync(join(tmpdir(), 'webtinker-export-'));
  roots.push(folder);
  await writeFiles(folder, files);
  return { files, folder, model: await OnnxModel.load(folder) };
}

/** Greedy continuation of a prompt, the prompt in one piece and then token by token. */
async function greedy(
  model: OnnxModel,
  prompt: readonly number[],
  count: number,
): Promise<{ tokens: number[]; logprobs: number[] }> {
  const tokens: number[] = [];
  const logprobs: number[] = [];
  let { logits, cache } = await model.run({ ids: [prompt] });
  for (;;) {
    const last = logits[0]!.at(-1)!;
    const next = argmax(last);
    tokens.push(next);
    logprobs.push(logprob(last, next));
    if (tokens.length === count) return { tokens, logprobs };
    const length = prompt.length + tokens.length;
    ({ logits, cache } = await model.run(
      { ids: [[next]], mask: [Array.from({ length }, () => 1)], positions: [[length - 1]] },
      cache,
    ));
  }
}

for (const name of MODELS) {
  describe(name, () => {
    let fixture: Fixture;
    let adapted: Exported;
    beforeAll(async () => {
      fixture = await Fixture.load(name);
      adapted = await exported(fixture, fixture.source());
    });
    afterAll(() => adapted?.model.dispose());

    it('log-probabilities with the adapter merged in are those of transformers + peft', async () => {
      for (const [i, { tokens, targets }] of fixture.expected.batch.entries()) {
        const { logits } = await adapted.model.run({ ids: [tokens] });
        const actual = targets.map((target, t) => logprob(logits[0]![t]!, target));
        expectClose(actual, fixture.expected.logprobs[i]!, { atol: 1e-4, rtol: 0 }, `datum ${i}`);
      }
    });

    it('greedy text token by token is that of transformers, with the adapter and without', async () => {
      const base = await exported(fixture, fixture.source(null));
      for (const [kind, { model }] of [
        ['base', base],
        ['adapted', adapted],
      ] as const) {
        const { prompt, tokens, logprobs } = fixture.expected.greedy[kind];
        const made = await greedy(model, prompt, tokens.length);
        expect(made.tokens, kind).toEqual(tokens);
        expectClose(made.logprobs, logprobs, { atol: 1e-4, rtol: 0 }, kind);
      }
      await base.model.dispose();
    });

    it('a text in one piece, in two and token by token has the same logits', async () => {
      const { tokens } = fixture.expected.batch.reduce((a, b) => (b.tokens.length > a.tokens.length ? b : a));
      const whole = (await adapted.model.run({ ids: [tokens] })).logits[0]!;
      for (const cuts of [[tokens.length >> 1], tokens.map((_, t) => t).slice(1)]) {
        let cache = adapted.model.empty(1);
        const rows: Float32Array[] = [];
        for (const [i, end] of [...cuts, tokens.length].entries()) {
          const start = cuts[i - 1] ?? 0;
          const ids = [tokens.slice(start, end)];
          const mask = [tokens.slice(0, end).map(() => 1)];
          const positions = [ids[0]!.map((_, t) => start + t)];
          const out = await adapted.model.run({ ids, mask, positions }, cache);
          rows.push(...out.logits[0]!);
          cache = out.cache;
        }
        rows.forEach((row, t) => expectClose(row, whole[t]!, { atol: 1e-4, rtol: 0 }, `token ${t}`));
      }
    });

    it('rows of a padded batch are what they are alone, at first and with a cache', async () => {
      const texts = fixture.expected.batch.map(({ tokens }) => tokens);
      const longest = Math.max(...texts.map((text) => text.length));
      for (const side of ['left', 'right'] as const) {
        const pad = <T>(row: readonly T[], filler: T): T[] => {
          const padding = Array.from({ length: longest - row.length }, () => filler);
          return side === 'left' ? [...padding, ...row] : [...row, ...padding];
        };
        const mask = texts.map((text) =>
          pad(
            text.map(() => 1),
            0,
          ),
        );
        const batch = await adapted.model.run({ ids: texts.map((text) => pad(text, 0)), mask });
        const next = await adapted.model.run(
          { ids: texts.map((text) => [text[0]!]), mask: mask.map((row) => [...row, 1]) },
          batch.cache,
        );
        for (const [b, text] of texts.entries()) {
          const alone = (await adapted.model.run({ ids: [[...text, text[0]!]] })).logits[0]!;
          const start = side === 'left' ? longest - text.length : 0;
          text.forEach((_, t) =>
            expectClose(
              batch.logits[b]![start + t]!,
              alone[t]!,
              { atol: 1e-4, rtol: 0 },
              `${side} ${b}.${t}`,
            ),
          );
          expectClose(next.logits[b]![0]!, alone.at(-1)!, { atol: 1e-4, rtol: 0 }, `${side} ${b}, next`);
        }
        // padding itself sees nothing, and must not turn into NaN that the cache would keep
        for (const { data } of Object.values(next.cache))
          expect((data as Float32Array).every(Number.isFinite)).toBe(true);
      }
    });
  });
}
