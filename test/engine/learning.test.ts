/**
 * LoRA on `webtinker/pocket` visibly works, through the public clients and the
 * worker: the documentation's seven Pig Latin examples are learnt by heart, and
 * five hundred word pairs teach the rule. Words and recipe: `tools/pocket`.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  Datum,
  ModelInput,
  ServiceClient,
  type SamplingClient,
  type Tokenizer,
  type TrainingClient,
} from '../../src/index';

type Pair = readonly [english: string, pigLatin: string];

interface Recipe {
  readonly learning_rate: number;
  /** `linear` falls to zero over the steps */
  readonly schedule: 'constant' | 'linear';
  readonly steps: number;
  /** examples a step */
  readonly batch: number;
}

interface PigLatinFile {
  readonly recommended: { readonly rank: number; readonly seven: Recipe; readonly words: Recipe };
  readonly seven: readonly Pair[];
  readonly train: readonly Pair[];
  readonly heldOut: readonly Pair[];
}

let service: ServiceClient;
let file: PigLatinFile;
beforeAll(async () => {
  service = new ServiceClient();
  file = (await (await fetch('/tools/pocket/pig-latin-words.json')).json()) as PigLatinFile;
});
afterAll(() => service?.dispose());

const promptOf = (english: string): string => `English: ${english}\nPig Latin:`;

/** The documentation's example: the prompt has weight 0, the answer and the two line ends after it weight 1. */
function datumOf([english, pigLatin]: Pair, tokenizer: Tokenizer): Datum {
  const prompt = tokenizer.encode(promptOf(english), { add_special_tokens: true });
  const answer = tokenizer.encode(` ${pigLatin}\n\n`, { add_special_tokens: false });
  const tokens = [...prompt, ...answer];
  const weights = [...prompt.map(() => 0), ...answer.map(() => 1)];
  return new Datum({
    modelInput: ModelInput.fromInts(tokens.slice(0, -1)),
    lossFnInputs: { target_tokens: tokens.slice(1), weights: weights.slice(1) },
  });
}

const weightOf = (data: readonly Datum[]): number =>
  data.reduce((sum, d) => sum + d.lossFnInputs['weights']!.toArray().reduce((a, b) => a + b, 0), 0);

/** Greedy answers, each up to its line end. */
async function translate(
  sampler: SamplingClient,
  words: readonly string[],
  tokenizer: Tokenizer,
): Promise<string[]> {
  const samplingParams = { maxTokens: 40, temperature: 0, stop: ['\n'] };
  const answers = words.map(async (word) => {
    const prompt = ModelInput.fromInts(tokenizer.encode(promptOf(word), { add_special_tokens: true }));
    const { sequences } = await sampler.sample({ prompt, samplingParams });
    return tokenizer.decode(sequences[0]!.tokens).trim();
  });
  return Promise.all(answers);
}

/** One AdamW step per batch. */
async function train(
  client: TrainingClient,
  batches: readonly (readonly Datum[])[],
  { learning_rate: rate, schedule }: Recipe,
): Promise<number[]> {
  const passes = [];
  for (const [step, batch] of batches.entries()) {
    const pass = client.forwardBackward(batch, 'cross_entropy');
    const learningRate = schedule === 'linear' ? rate * (1 - step / batches.length) : rate;
    const update = client.optimStep({ learningRate, beta1: 0.9, beta2: 0.95, eps: 1e-12 });
    passes.push({ pass, weight: weightOf(batch) });
    // one step ahead of what is awaited: the normal use
    if (step > 0) await passes[step - 1]!.pass;
    if (step === batches.length - 1) await update;
  }
  return Promise.all(passes.map(async ({ pass, weight }) => (await pass).metrics['loss:sum']! / weight));
}

/** `pairs` over and over, in a new order each time; the order is fixed by the generator's start. */
function shuffledBatches(data: readonly Datum[], batch: number, steps: number): Datum[][] {
  let state = 1;
  const next = (): number => (state = (Math.imul(state, 48271) >>> 0) % 2147483647) / 2147483647;
  const order: Datum[] = [];
  return Array.from({ length: steps }, () => {
    while (order.length < batch) {
      const again = [...data];
      for (let i = again.length - 1; i > 0; i--) {
        const j = Math.floor(next() * (i + 1));
        [again[i], again[j]] = [again[j]!, again[i]!];
      }
      order.push(...again);
    }
    return order.splice(0, batch);
  });
}

const seconds = (since: number): string => `${((performance.now() - since) / 1000).toFixed(1)} s`;

describe('webtinker/pocket', () => {
  it('learns the seven examples of the documentation by heart', { timeout: 900_000 }, async () => {
    const { rank, seven: recipe } = file.recommended;
    const client = await service.createLoraTrainingClient({ baseModel: 'webtinker/pocket', rank, seed: 1 });
    const tokenizer = await client.getTokenizer();
    const data = file.seven.map((pair) => datumOf(pair, tokenizer));
    const started = performance.now();
    const losses = await train(client, new Array<Datum[]>(recipe.steps).fill(data), recipe);
    const took = seconds(started);
    const final = (await client.forward(data, 'cross_entropy')).metrics['loss:sum']! / weightOf(data);
    const words = file.seven.map(([english]) => english);
    const answers = await translate(await client.saveWeightsAndGetSamplingClient(), words, tokenizer);
    console.log(
      `seven examples: loss per token ${losses[0]!.toFixed(3)} → ${final.toFixed(4)} in ${recipe.steps} steps, ${took}; ` +
        `below 0.1 after ${losses.findIndex((l) => l < 0.1)} steps`,
    );
    expect(final).toBeLessThan(0.1);
    expect(answers).toEqual(file.seven.map(([, pigLatin]) => pigLatin));
    await client.dispose();
  });

  it('translates four of five held-out words after 500 pairs', { timeout: 1_800_000 }, async () => {
    const { rank, words: recipe } = file.recommended;
    expect([file.train.length, file.heldOut.length]).toEqual([500, 100]);
    const trained = new Set(file.train.map(([english]) => english));
    expect(file.heldOut.filter(([english]) => trained.has(english))).toEqual([]);

    const client = await service.createLoraTrainingClient({ baseModel: 'webtinker/pocket', rank, seed: 1 });
    const tokenizer = await client.getTokenizer();
    const data = file.train.map((pair) => datumOf(pair, tokenizer));
    const started = performance.now();
    const losses = await train(client, shuffledBatches(data, recipe.batch, recipe.steps), recipe);
    const took = seconds(started);
    const sampling = performance.now();
    const words = file.heldOut.map(([english]) => english);
    const answers = await translate(await client.saveWeightsAndGetSamplingClient(), words, tokenizer);
    const right = answers.filter((answer, i) => answer === file.heldOut[i]![1]).length;
    console.log(
      `500 pairs: loss per token ${losses[0]!.toFixed(3)} → ${losses.at(-1)!.toFixed(4)} in ${recipe.steps} steps ` +
        `of ${recipe.batch}, ${took}; ${right} of 100 held-out words right (sampled in ${seconds(sampling)})`,
    );
    expect(right).toBeGreaterThanOrEqual(80);
    await client.dispose();
  });
});
