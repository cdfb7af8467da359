/** Exported graphs in onnxruntime-node, against what transformers + peft computed from the same weights. */
import { rmSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { expectClose } from '../../support/compare';
import { exportedFolder, Fixture, MODELS } from '../support/export-fixture';
import { argmax, logprob, OnnxModel } from '../support/onnx-model';

const folders: string[] = [];
afterAll(() => folders.forEach((folder) => rmSync(folder, { recursive: true, force: true })));

/** Exports a fixture with its adapter, or without, and loads it. */
async function load(
  fixture: Fixture,
  adapter = fixture.adapter as Fixture['adapter'] | null,
): Promise<OnnxModel> {
  const { folder } = await exportedFolder(fixture.model, fixture.source(adapter));
  folders.push(folder);
  return OnnxModel.load(folder);
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
    let adapted: OnnxModel;
    beforeAll(async () => {
      fixture = await Fixture.load(name);
      adapted = await load(fixture);
    });
    afterAll(() => adapted?.dispose());

    it('log-probabilities with the adapter merged in are those of transformers + peft', async () => {
      for (const [i, { tokens, targets }] of fixture.expected.batch.entries()) {
        const { logits } = await adapted.run({ ids: [tokens] });
        const actual = targets.map((target, t) => logprob(logits[0]![t]!, target));
        expectClose(actual, fixture.expected.logprobs[i]!, { atol: 1e-4, rtol: 0 }, `datum ${i}`);
      }
    });

    it('greedy text token by token is that of transformers, with the adapter and without', async () => {
      const base = await load(fixture, null);
      for (const [kind, model] of [
        ['base', base],
        ['adapted', adapted],
      ] as const) {
        const { prompt, tokens, logprobs } = fixture.expected.greedy[kind];
        const made = await greedy(model, prompt, tokens.length);
        expect(made.tokens, kind).toEqual(tokens);
        expectClose(made.logprobs, logprobs, { atol: 1e-4, rtol: 0 }, kind);
      }
      await base.dispose();
    });

    it('a text in one piece, in two and token by token has the same logits', async () => {
      const { tokens } = fixture.expected.batch.reduce((a, b) => (b.tokens.length > a.tokens.length ? b : a));
      const whole = (await adapted.run({ ids: [tokens] })).logits[0]!;
      for (const cuts of [[tokens.length >> 1], tokens.map((_, t) => t).slice(1)]) {
        let cache = adapted.empty(1);
        const rows: Float32Array[] = [];
        for (const [i, end] of [...cuts, tokens.length].entries()) {
          const start = cuts[i - 1] ?? 0;
          const ids = [tokens.slice(start, end)];
          const mask = [tokens.slice(0, end).map(() => 1)];
          const positions = [ids[0]!.map((_, t) => start + t)];
          const out = await adapted.run({ ids, mask, positions }, cache);
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
        const batch = await adapted.run({ ids: texts.map((text) => pad(text, 0)), mask });
        const next = await adapted.run(
          { ids: texts.map((text) => [text[0]!]), mask: mask.map((row) => [...row, 1]) },
          batch.cache,
        );
        for (const [b, text] of texts.entries()) {
          const alone = (await adapted.run({ ids: [[...text, text[0]!]] })).logits[0]!;
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
