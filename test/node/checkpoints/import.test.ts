/** Adapters from elsewhere: what is taken, what is refused and how, and the archives they come in. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, openAsBlob, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { packTar, type TarHeader } from 'modern-tar';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { BadRequestError, UnprocessableEntityError } from '../../../src/api/contract/errors';
import { Catalog } from '../../../src/checkpoints/catalog';
import { MemoryStore } from '../../../src/checkpoints/memory-store';
import { FolderStore } from '../../../src/checkpoints/node/folder-store';
import { parseSafetensors, writeSafetensors, type HostTensor } from '../../../src/models/safetensors';
import { equal, rejects } from '../../checkpoints/support/check';
import { pathOf, sample } from '../../checkpoints/support/samples';

let root: string;
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'webtinker-import-'));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

const fixture = (name: string): string =>
  fileURLToPath(new URL(`../../fixtures/peft/${name}`, import.meta.url));

/** The files of an adapter that peft made. */
const filesOf = (name: string): Record<string, Blob> =>
  Object.fromEntries(
    ['adapter_config.json', 'adapter_model.safetensors'].map((file) => [
      file,
      new Blob([readFileSync(join(fixture(name), file))]),
    ]),
  );

const tensor = (...shape: number[]): HostTensor => ({
  shape,
  data: new Float32Array(shape.reduce((n, s) => n * s, 1)).fill(1),
});
const q = 'base_model.model.model.layers.0.self_attn.q_proj';
const pair = { [`${q}.lora_A.weight`]: tensor(2, 6), [`${q}.lora_B.weight`]: tensor(6, 2) };
const plain = { peft_type: 'LORA', r: 2, lora_alpha: 32, base_model_name_or_path: 'm' };

/** An adapter with this configuration and these tensors. */
const adapter = (config: unknown = {}, tensors: Record<string, HostTensor> = pair): Record<string, Blob> => ({
  'adapter_config.json': new Blob([
    typeof config === 'string' ? config : JSON.stringify({ ...plain, ...(config as object) }),
  ]),
  'adapter_model.safetensors': new Blob([writeSafetensors(new Map(Object.entries(tensors)))]),
});

const open = (): Promise<Catalog> => Catalog.open(new MemoryStore());
const take = async (
  source: Blob | Record<string, Blob>,
  baseModel: string | null = null,
): Promise<Awaited<ReturnType<Catalog['load']>>> => {
  const catalog = await open();
  const { tinkerPath } = await catalog.import({ sessionId: 's', source, name: 'a', baseModel });
  return catalog.load(tinkerPath, { optimizer: false });
};

test.each([
  ['few-modules', 8 / 4, 'tied', { trainAttn: true, trainMlp: false, trainUnembed: false }, 8],
  ['all-rslora', 6 / Math.sqrt(8), 'untied', { trainAttn: true, trainMlp: true, trainUnembed: true }, 30],
])(
  'peft’s %s becomes one of ours, its scaling folded into B',
  async (name, scale, baseModel, parts, matrices) => {
    const loaded = await take(filesOf(name));
    const file = readFileSync(join(fixture(name), 'adapter_model.safetensors'));
    const { tensors } = parseSafetensors(new Uint8Array(file).buffer);
    const rank = tensors.get(`${q}.lora_A.weight`)!.shape[0]!;
    expect(loaded.record.adapter).toEqual({ baseModel, rank, alpha: 32, ...parts });
    expect(loaded.matrices.size).toBe(matrices);
    for (const [canonical, { shape, data }] of loaded.matrices) {
      const layer = canonical.startsWith('layers.') ? 'model.' : '';
      const theirs = tensors.get(`base_model.model.${layer}${canonical}.weight`)!;
      expect(shape).toEqual(theirs.shape);
      // (alpha / r of ours) · B of ours = their scale · their B
      const factor = canonical.endsWith('lora_B') ? scale / (32 / rank) : 1;
      expect(data).toEqual(theirs.data.map((x) => x * factor));
    }
  },
);

test('the service’s name of the unembedding, and another base model, are taken', async () => {
  const unembed = 'base_model.model.model.unembed_tokens';
  const source = adapter(
    {},
    { [`${unembed}.lora_A.weight`]: tensor(2, 6), [`${unembed}.lora_B.weight`]: tensor(11, 2) },
  );
  const { matrices, record } = await take(source, 'other');
  expect([...matrices.keys()]).toEqual(['lm_head.lora_A', 'lm_head.lora_B']);
  expect(record.adapter.baseModel).toBe('other');
});

const refused: [
  string,
  typeof BadRequestError | typeof UnprocessableEntityError,
  RegExp,
  Record<string, Blob>,
][] = [
  ['DoRA', BadRequestError, /use_dora/, adapter({ use_dora: true })],
  ['biases', BadRequestError, /bias/, adapter({ bias: 'lora_only' })],
  ['whole modules', BadRequestError, /modules_to_save/, adapter({ modules_to_save: ['lm_head'] })],
  ['ranks by module', BadRequestError, /rank_pattern/, adapter({ rank_pattern: { q_proj: 4 } })],
  ['alphas by module', BadRequestError, /alpha_pattern/, adapter({ alpha_pattern: { q_proj: 4 } })],
  ['transposed weights', BadRequestError, /fan_in_fan_out/, adapter({ fan_in_fan_out: true })],
  ['what nobody knows yet', BadRequestError, /use_tomorrow/, adapter({ use_tomorrow: { x: 1 } })],
  [
    'a changed base model',
    BadRequestError,
    /init_lora_weights/,
    adapter({ init_lora_weights: 'pissa_niter_4' }),
  ],
  ['another kind', BadRequestError, /peft_type/, adapter({ peft_type: 'IA3' })],
  ['rank 3', BadRequestError, /power of 2/, adapter({ r: 3 })],
  ['rank 512', BadRequestError, /power of 2/, adapter({ r: 512 })],
  ['no rank', BadRequestError, /\br\b/, adapter({ r: undefined })],
  ['no alpha', BadRequestError, /lora_alpha/, adapter({ lora_alpha: 'x' })],
  ['no base model', BadRequestError, /base_model/, adapter({ base_model_name_or_path: null })],
  ['no JSON', UnprocessableEntityError, /not JSON/, adapter('{')],
  ['a list', UnprocessableEntityError, /not a JSON object/, adapter('[]')],
  ['a rank that is not the matrices’', UnprocessableEntityError, /rank 4/, adapter({ r: 4 })],
  ['half a pair', UnprocessableEntityError, /without/, adapter({}, { [`${q}.lora_A.weight`]: tensor(2, 6) })],
  ['no matrices', UnprocessableEntityError, /no LoRA matrices/, adapter({}, {})],
  [
    'embeddings',
    UnprocessableEntityError,
    /embed_tokens/,
    adapter({}, { ...pair, 'base_model.model.model.embed_tokens.lora_embedding_A': tensor(2, 6) }),
  ],
  [
    'an unknown module',
    UnprocessableEntityError,
    /rotary/,
    adapter({}, { ...pair, 'base_model.model.model.layers.0.rotary.lora_A.weight': tensor(2, 6) }),
  ],
  [
    'no tensors',
    UnprocessableEntityError,
    /no adapter_model/,
    { 'adapter_config.json': adapter()['adapter_config.json']! },
  ],
  [
    'no configuration',
    UnprocessableEntityError,
    /no adapter_config/,
    { 'adapter_model.safetensors': adapter()['adapter_model.safetensors']! },
  ],
  [
    'no safetensors',
    UnprocessableEntityError,
    /adapter_model/,
    { ...adapter(), 'adapter_model.safetensors': new Blob(['PK']) },
  ],
  [
    'a configuration of 2 MiB',
    UnprocessableEntityError,
    /limit/,
    { ...adapter(), 'adapter_config.json': new Blob([' '.repeat(2 ** 21)]) },
  ],
];

test.each(refused)('%s is refused', async (_what, Class, reason, source) => {
  const catalog = await open();
  await rejects(catalog.import({ sessionId: 's', source, name: 'a', baseModel: null }), Class, reason);
  equal((await catalog.listRuns({ limit: 1, offset: 0 })).cursor.totalCount, 0, 'runs');
});

/** A `.tar` of an adapter, and of what else there is to put in. */
async function tar(extra: (TarHeader & { text?: string })[] = [], without?: string): Promise<Blob> {
  const files = Object.entries(adapter()).filter(([name]) => name !== without);
  const entries = await Promise.all(
    files.map(async ([name, blob]) => ({
      header: { name, size: blob.size },
      body: new Uint8Array(await blob.arrayBuffer()),
    })),
  );
  const others = extra.map(({ text, ...header }) => ({ header, ...(text !== undefined && { body: text }) }));
  return new Blob([await packTar([...others, ...entries])]);
}

test('archives are read with suspicion', async () => {
  const refusals: [RegExp, Blob][] = [
    [/leads out/, await tar([{ name: '../adapter_config.json', size: 2, text: '{}' }])],
    [/leads out/, await tar([{ name: 'a/../../b', size: 0 }])],
    [/leads out/, await tar([{ name: '/etc/passwd', size: 0 }])],
    [/leads out/, await tar([{ name: 'C:\\x', size: 0 }])],
    [/no file/, await tar([{ name: 'x', size: 0, type: 'symlink', linkname: '/etc/passwd' }])],
    [/no file/, await tar([{ name: 'x', size: 0, type: 'link', linkname: 'adapter_config.json' }])],
    [/no file/, await tar([{ name: 'x', size: 0, type: 'fifo' }])],
    [/twice/, await tar([{ name: './adapter_config.json', size: 2, text: '{}' }])],
    [/no adapter_config/, await tar([], 'adapter_config.json')],
    [/no adapter_model/, await tar([], 'adapter_model.safetensors')],
    [/limit/, await tar([{ name: 'adapter_config.json', size: 2 ** 21, text: ' '.repeat(2 ** 21) }])],
    [/\.tar/, (await tar()).slice(0, 1300)],
    [/\.tar/, new Blob([crypto.getRandomValues(new Uint8Array(5000))])],
    [/\.tar/, new Blob()],
  ];
  for (const [reason, source] of refusals) await rejects(take(source), UnprocessableEntityError, reason);
  // what is not needed is passed over
  const more = [
    { name: 'notes/', size: 0, type: 'directory' as const },
    { name: 'notes/README.md', size: 2, text: 'hi' },
  ];
  expect((await take(await tar(more))).matrices.size).toBe(2);
});

test('an archive is one that tar reads, and is read from disk when it is read', async () => {
  const folder = mkdtempSync(join(root, 'store-'));
  const catalog = await Catalog.open(await FolderStore.open(folder));
  // the adapter of a model of some size, 96 MB
  const matrices = new Map([
    ['lm_head.lora_A', { shape: [256, 4] as const, data: new Float32Array(256 * 4).fill(1) }],
    ['lm_head.lora_B', { shape: [98_304, 256] as const, data: new Float32Array(98_304 * 256).fill(0.5) }],
  ]);
  const options = sample(1, { matrices, optimizer: null, adapter: { ...sample(1).adapter, rank: 256 } });
  const record = await catalog.save(options);
  const before = process.memoryUsage().arrayBuffers;
  const archive = await catalog.archive(pathOf(options));
  let peak = 0;
  let size = 0;
  for await (const chunk of archive.stream()) {
    size += (chunk as Uint8Array).length;
    peak = Math.max(peak, process.memoryUsage().arrayBuffers - before);
  }
  expect(size).toBe(archive.size);
  console.log(`an archive of ${size} bytes: at most ${peak} bytes of it in memory`);
  expect(peak, 'bytes in memory').toBeLessThan(size);

  const path = join(root, 'archive.tar');
  writeFileSync(path, new Uint8Array(await archive.arrayBuffer()));
  const names = ['adapter_model.safetensors', 'adapter_config.json', 'checkpoint_complete'];
  expect(execFileSync('tar', ['-tf', path], { encoding: 'utf8' }).trim().split('\n')).toEqual(names);
  execFileSync('tar', ['-xf', path, '-C', root]);
  for (const name of names.slice(0, 2)) {
    const stored = readFileSync(join(folder, 'folders', record.folder, name));
    expect(readFileSync(join(root, name)).equals(stored), name).toBe(true);
  }
  expect(readFileSync(join(root, 'checkpoint_complete'))).toHaveLength(0);
  // and is taken in again
  const again = await catalog.import({
    sessionId: 's',
    source: await openAsBlob(path),
    name: 'a',
    baseModel: null,
  });
  expect(again.sizeBytes).toBe(record.files.reduce((n, { bytes }) => n + bytes, 0));
});
