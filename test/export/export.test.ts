/**
 * Exports of the real engine, loaded by transformers.js in the same page (ONNX Runtime as WebAssembly): the graph
 * says what the engine says.
 */
import { AutoModelForCausalLM, pipeline, Tensor, type PreTrainedModel } from '@huggingface/transformers';
import { createTarDecoder } from 'modern-tar';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LoadCallOptions } from '../../src/api/contract/backend';
import type { OnnxExportPayload } from '../../src/api/contract/types';
import type { Engine } from '../../src/engine/engine';
import * as tinker from '../../src/index';
import { Datum, ModelInput, ServiceClient, type ProgressEvent } from '../../src/index';
import { expectClose } from '../support/compare';
import {
  createModel,
  createSampler,
  crossEntropy,
  FIXTURE_NAMES,
  gpuOf,
  GREEDY,
  loadFixture,
  openEngine,
  type Fixture,
} from '../support/engine';
import { serveModel } from './support/transformers';

const int64 = (tokens: readonly number[]): Tensor =>
  new Tensor('int64', BigInt64Array.from(tokens, BigInt), [1, tokens.length]);

/** Log-probabilities of targets after a prefix of tokens each, by the exported graph. */
async function logprobs(
  model: PreTrainedModel,
  tokens: readonly number[],
  targets: readonly number[],
): Promise<number[]> {
  const inputs = { input_ids: int64(tokens), attention_mask: int64(tokens.map(() => 1)) };
  const { logits } = (await model(inputs)) as { logits: Tensor };
  const [, length, vocab] = logits.dims as [number, number, number];
  expect(length).toBe(tokens.length);
  const data = logits.data as Float32Array;
  return targets.map((target, t) => {
    const row = data.subarray(t * vocab, (t + 1) * vocab);
    const max = Math.max(...row);
    return row[target]! - max - Math.log(row.reduce((n, x) => n + Math.exp(x - max), 0));
  });
}

const load = ({ files }: OnnxExportPayload): Promise<PreTrainedModel> =>
  AutoModelForCausalLM.from_pretrained(serveModel(new Map(Object.entries(files))));

describe('the engine and its export agree', () => {
  let engine: Engine;
  beforeAll(async () => {
    engine = await openEngine();
  });
  afterAll(() => engine?.dispose());

  /** Exports a sampler and unloads it. */
  async function exported(samplerId: string, inlineBytes: number | null): Promise<OnnxExportPayload> {
    const made = await engine.exportOnnx({ samplerId, inlineBytes });
    await engine.unloadSampler(samplerId);
    return made;
  }

  for (const name of FIXTURE_NAMES) {
    it(name, async () => {
      const fixture: Fixture = await loadFixture(name);
      const modelId = await createModel(engine, fixture);
      const expected = await crossEntropy(engine, modelId, fixture.batch, true);
      const samplerId = await createSampler(engine, { modelId });
      const { prompt } = fixture.greedy.adapted;
      const sampled = await engine.sample({
        samplerId,
        prompt,
        numSamples: 1,
        params: GREEDY,
        promptLogprobs: false,
        topkPromptLogprobs: 0,
      });
      // trained on meanwhile, as if: the sampler is a snapshot
      engine.debugSetAdapter(modelId, fixture.runs.plain.final);
      const model = await load(await exported(samplerId, 0));
      let worst = 0;
      for (const [i, { tokens, lossFnInputs }] of fixture.batch.entries()) {
        const targets = [...lossFnInputs.target_tokens!.data] as number[];
        const actual = await logprobs(model, tokens, targets);
        expectClose(actual, expected.logprobs[i]!, { atol: 1e-4, rtol: 0 }, `datum ${i}`);
        worst = actual.reduce((most, x, t) => Math.max(most, Math.abs(x - expected.logprobs[i]![t]!)), worst);
      }
      console.log(`${name}: engine and exported graph within ${worst.toExponential(1)}`);
      const generated = (await model.generate({
        inputs: int64(prompt),
        max_new_tokens: GREEDY.maxTokens!,
        do_sample: false,
      })) as Tensor;
      expect((generated.tolist() as bigint[][])[0]!.slice(prompt.length).map(Number)).toEqual(
        sampled.sequences[0]!.tokens,
      );
      await model.dispose();
      await engine.unloadModel(modelId);
    });
  }
});

describe('a device that goes away', () => {
  it('is replaced, and the export written again from the start', async () => {
    const engine = await openEngine();
    const samplerId = await createSampler(engine, { base: 'grouped-odd' });
    const request = { samplerId, inlineBytes: null };
    const graph = async (options?: LoadCallOptions): Promise<Uint8Array> => {
      const { files } = await engine.exportOnnx(request, options);
      return new Uint8Array(await files['onnx/model.onnx']!.arrayBuffer());
    };
    const expected = await graph();
    const seen: number[] = [];
    const onProgress = ({ loaded }: ProgressEvent): void => {
      seen.push(loaded);
      if (seen.length === 6) gpuOf(engine).device.destroy();
    };
    expect(await graph({ onProgress })).toEqual(expected);
    expect(seen.filter((loaded) => loaded === 0)).toHaveLength(2);
    expect((await engine.stats()).recoveries).toHaveLength(1);
    await engine.dispose();
  });
});

describe('through the client and the worker', () => {
  let service: ServiceClient;
  let training: tinker.TrainingClient;
  let tokenizer: tinker.Tokenizer;
  beforeAll(async () => {
    service = new ServiceClient({ device: 'webgpu' });
    training = await service.createLoraTrainingClient({ rank: 16, seed: 3 });
    tokenizer = await training.getTokenizer();
    const data = [
      ['banana split', 'anana-bay plit-say'],
      ['quantum physics', 'uantum-qay ysics-phay'],
    ].map(([english, latin]) => {
      const head = tokenizer.encode(`English: ${english}\nPig Latin:`);
      const tokens = [...head, ...tokenizer.encode(` ${latin}\n\n`)];
      const weights = tokens.slice(1).map((_, i) => +(i >= head.length - 1));
      return new Datum({
        modelInput: ModelInput.fromInts(tokens.slice(0, -1)),
        lossFnInputs: { target_tokens: tokens.slice(1), weights },
      });
    });
    for (let step = 0; step < 12; step++) {
      void training.forwardBackward(data, 'cross_entropy');
      await training.optimStep({ learningRate: 5e-3 });
    }
  });
  afterAll(() => service?.dispose());

  const sampler = (): Promise<tinker.SamplingClient> => training.saveWeightsAndGetSamplingClient();

  const rejection = (promise: PromiseLike<unknown>): Promise<unknown> =>
    Promise.resolve(promise).then(
      () => expect.fail('it resolved'),
      (error: unknown) => error,
    );

  it('a trained adapter: progress, and the same greedy text by the pipeline', async () => {
    const client = await sampler();
    const events: ProgressEvent[] = [];
    const text = (english: string): string => `English: ${english}\nPig Latin:`;
    const ours = async (english: string): Promise<string> => {
      const prompt = ModelInput.fromInts(tokenizer.encode(text(english)));
      const { sequences } = await client.sample({
        prompt,
        samplingParams: { maxTokens: 24, temperature: 0 },
      });
      return tokenizer.decode(sequences[0]!.tokens, { skip_special_tokens: true });
    };
    const before = await ours('pickle jar');
    // samples are drawn meanwhile
    const [{ files }, during] = await Promise.all([
      client.exportOnnx({ onProgress: (event) => void events.push(event) }),
      ours('pickle jar'),
    ]);
    expect(during).toBe(before);
    // the trained unembedding is no longer the embedding
    const total = 6 * 9 + 4;
    expect(events).toEqual(
      Array.from({ length: total + 1 }, (_, loaded) => ({
        phase: 'export',
        what: 'webtinker/pocket',
        loaded,
        total,
      })),
    );
    const generate = await pipeline('text-generation', serveModel(files));
    for (const english of ['banana split', 'quantum physics', 'pickle jar', 'hello']) {
      const options = { max_new_tokens: 24, do_sample: false };
      const [theirs] = (await generate(text(english), options)) as { generated_text: string }[];
      expect(theirs!.generated_text).toBe(text(english) + (await ours(english)));
      if (english === 'banana split') expect(await ours(english)).toMatch(/^ anana/);
    }
    await generate.dispose();
    await client.dispose();
  });

  it('the archive holds the same files', async () => {
    const client = await service.createSamplingClient({ baseModel: 'webtinker/pocket' });
    const { files, archive } = await client.exportOnnx({ inlineBytes: 1000 });
    expect(files.has('onnx/model.onnx_data')).toBe(true);
    const found = new Map<string, Uint8Array>();
    for await (const { header, body } of archive.stream().pipeThrough(createTarDecoder({ strict: true }))) {
      found.set(header.name, new Uint8Array(await new Response(body).arrayBuffer()));
    }
    expect([...found.keys()]).toEqual([...files.keys()]);
    for (const [path, blob] of files) {
      // compared by hand: `toEqual` takes seconds for a megabyte
      const [bytes, expected] = [found.get(path)!, new Uint8Array(await blob.arrayBuffer())];
      expect(bytes, path).toHaveLength(expected.length);
      expect(
        bytes.findIndex((byte, i) => byte !== expected[i]),
        path,
      ).toBe(-1);
    }
    await client.dispose();
  });

  it('can be given up in its midst, by the signal or with its client, and leaves both as they were', async () => {
    const client = await sampler();
    const seen: number[] = [];
    const stop = new AbortController();
    const cause = new Error('changed my mind');
    const given = client.exportOnnx({
      signal: stop.signal,
      onProgress: ({ loaded }) => {
        seen.push(loaded);
        if (loaded === 5) stop.abort(cause);
      },
    });
    const error = (await rejection(given)) as tinker.AbortedError;
    expect(error).toBeInstanceOf(tinker.AbortedError);
    expect(error.cause).toBe(cause);
    expect(seen.length).toBeLessThan(50);

    const whole = await client.exportOnnx();
    expect(whole.files.size).toBe(5);
    const late = client.exportOnnx({ onProgress: ({ loaded }) => void (loaded === 5 && client.dispose()) });
    expect(await rejection(late)).toBeInstanceOf(tinker.AbortedError);
    expect(await rejection(client.exportOnnx())).toBeInstanceOf(tinker.AbortedError);
    await expect(training.getInfo()).resolves.toMatchObject({ modelName: 'webtinker/pocket' });
  });

  it('refuses what it does not know, by name', async () => {
    const client = await service.createSamplingClient({ baseModel: 'webtinker/pocket' });
    for (const [options, message] of [
      [{ inlineBytes: -1 }, /^inline_bytes: must be a whole number of bytes, 0 or more, got -1$/],
      [{ inlineBytes: 0.5 }, /^inline_bytes/],
      [{ inline_bytes: 5 }, /^exportOnnx\.inline_bytes: unknown setting; known: inlineBytes,/],
    ] as const) {
      const error = (await rejection(
        client.exportOnnx(options as tinker.ExportOnnxOptions),
      )) as tinker.BadRequestError;
      expect(error).toBeInstanceOf(tinker.BadRequestError);
      expect(error.message).toMatch(message);
    }
    await client.dispose();
  });
});
