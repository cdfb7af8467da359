/**
 * A trained model of the engine without a GPU, loaded from a folder by transformers.js in Node: the same greedy
 * text. And what onnxruntime-node computes from an export, against the engine itself.
 */
import { env, pipeline, type TextGenerationPipeline } from '@huggingface/transformers';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Catalog } from '../../../src/checkpoints/catalog';
import { MemoryStore } from '../../../src/checkpoints/memory-store';
import { nativeOpener } from '../../../src/engine/devices/onnx/native';
import { Engine } from '../../../src/engine/engine';
import { Datum, ModelInput, ServiceClient, type SamplingClient, type Tokenizer } from '../../../src/index';
import { fetchAny, loadAnyModel } from '../../../src/node/models';
import { expectClose } from '../../support/compare';
import { fixtureFolder, MODELS, Fixture } from '../support/export-fixture';
import { logprob, OnnxModel, writeFiles } from '../support/onnx-model';

const PHRASES = [
  ['banana split', 'anana-bay plit-say'],
  ['quantum physics', 'uantum-qay ysics-phay'],
] as const;
const promptOf = (english: string): string => `English: ${english}\nPig Latin:`;
const MAX_TOKENS = 24;

let engine: Engine;
let service: ServiceClient;
const folders: string[] = [];
beforeAll(async () => {
  engine = await Engine.create({
    devices: [nativeOpener()],
    device: 'cpu',
    resolveModel: loadAnyModel,
    fetch: fetchAny,
    storage: { kind: 'memory', open: () => Catalog.open(new MemoryStore()) },
  });
  service = new ServiceClient({ backend: engine });
});
afterAll(async () => {
  await service?.dispose();
  await engine?.dispose();
  folders.forEach((folder) => rmSync(folder, { recursive: true, force: true }));
});

async function exported(client: SamplingClient, inlineBytes?: number): Promise<string> {
  const { files } = await client.exportOnnx({ inlineBytes });
  const folder = mkdtempSync(join(tmpdir(), 'webtinker-export-'));
  folders.push(folder);
  await writeFiles(folder, files);
  return folder;
}

describe('webtinker/pocket with a trained adapter, from its checkpoint', () => {
  let client: SamplingClient;
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    const training = await service.createLoraTrainingClient({ rank: 16, seed: 5 });
    tokenizer = await training.getTokenizer();
    const data = PHRASES.map(([english, latin]) => {
      const head = tokenizer.encode(promptOf(english));
      const tokens = [...head, ...tokenizer.encode(` ${latin}\n\n`, { add_special_tokens: false })];
      const weights = tokens.slice(1).map((_, i) => (i >= head.length - 1 ? 1 : 0));
      return new Datum({
        modelInput: ModelInput.fromInts(tokens.slice(0, -1)),
        lossFnInputs: { target_tokens: tokens.slice(1), weights },
      });
    });
    for (let step = 0; step < 20; step++) {
      void training.forwardBackward(data, 'cross_entropy');
      await training.optimStep({ learningRate: 5e-3 });
    }
    const { path } = await training.saveWeightsForSampler('trained');
    await training.dispose();
    client = await service.createSamplingClient({ modelPath: path });
  });

  async function ours(prompt: string): Promise<string> {
    const { sequences } = await client.sample({
      prompt: ModelInput.fromInts(tokenizer.encode(prompt)),
      samplingParams: { maxTokens: MAX_TOKENS, temperature: 0 },
    });
    return tokenizer.decode(sequences[0]!.tokens, { skip_special_tokens: true });
  }

  /** A pipeline of what lies in the folder; nothing is asked of the network, nothing kept. */
  function pipelineOf(folder: string): Promise<TextGenerationPipeline> {
    env.localModelPath = dirname(folder);
    env.allowRemoteModels = false;
    env.useFSCache = false;
    return pipeline('text-generation', basename(folder));
  }

  for (const [where, inlineBytes] of [
    ['inside the graph', undefined],
    ['beside the graph', 0],
  ] as const) {
    it(`transformers.js writes what the client writes, weights ${where}`, async () => {
      const generate = await pipelineOf(await exported(client, inlineBytes));
      const prompts = [...PHRASES.map(([english]) => promptOf(english)), 'English: a', 'Once upon a time'];
      const options = { max_new_tokens: MAX_TOKENS, do_sample: false, return_full_text: false };
      const texts: string[] = [];
      for (const prompt of prompts) {
        const [{ generated_text }] = (await generate(prompt, options)) as [{ generated_text: string }];
        expect(generated_text, prompt).toBe(await ours(prompt));
        texts.push(generated_text);
      }
      expect(texts[0]).toContain(`${PHRASES[0][1]}\n`);

      // all at once, the shorter ones padded on the left; a row that has ended goes on until all have
      const batch = (await generate(prompts, options)) as [{ generated_text: string }][];
      batch.forEach(([{ generated_text }], i) => expect(generated_text.startsWith(texts[i]!)).toBe(true));
      await generate.dispose();
    });
  }
});

describe('the engine on ONNX Runtime and its exports agree', () => {
  for (const name of MODELS) {
    it(name, async () => {
      const { expected } = await Fixture.load(name);
      const training = await service.createLoraTrainingClient({
        baseModel: fixtureFolder(name),
        rank: expected.rank,
        seed: 11,
      });
      for (let step = 0; step < 3; step++) {
        const { tokens, targets } = expected.batch[step % expected.batch.length]!;
        const lossFnInputs = { target_tokens: targets, weights: targets.map(() => 1) };
        const datum = new Datum({ modelInput: ModelInput.fromInts(tokens), lossFnInputs });
        void training.forwardBackward([datum], 'cross_entropy');
        await training.optimStep({ learningRate: 1e-2 });
      }
      const client = await training.saveWeightsAndGetSamplingClient();
      const model = await OnnxModel.load(await exported(client));
      let worst = 0;
      for (const { tokens } of expected.batch.filter(({ tokens }) => tokens.length > 1)) {
        const [, ...known] = await client.computeLogprobs(ModelInput.fromInts(tokens));
        const { logits } = await model.run({ ids: [tokens] });
        const actual = known.map((_, t) => logprob(logits[0]![t]!, tokens[t + 1]!));
        expectClose(actual, known as number[], { atol: 1e-4, rtol: 0 }, name);
        worst = actual.reduce((most, x, t) => Math.max(most, Math.abs(x - known[t]!)), worst);
      }
      console.log(`${name}: engine and exported graph within ${worst.toExponential(1)}`);
      await model.dispose();
      await client.dispose();
      await training.dispose();
    });
  }
});
