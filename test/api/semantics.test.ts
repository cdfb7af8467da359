/**
 * What the public API's numbers mean, checked against the model's whole distribution: `forward` gives it, with
 * every token of the vocabulary as a target at each place.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import * as tinker from '../../src/index';

const COPY = 'Copy: banana split\nAnswer:';
const SPELL = '<|im_start|>user\nSpell the word cat<|im_end|>\n<|im_start|>assistant\n';
const CONTEXT = 512;
/** `<|im_end|>`, at which the embedded model ends a text */
const END = 258;

let service: tinker.ServiceClient;
let training: tinker.TrainingClient;
let sampling: tinker.SamplingClient;
let tokenizer: tinker.Tokenizer;
let vocabulary: number[];

beforeAll(async () => {
  service = new tinker.ServiceClient();
  const [model] = (await service.getServerCapabilities()).supportedModels;
  vocabulary = Array.from({ length: model!.vocabSize }, (_, id) => id);
  training = await service.createLoraTrainingClient({ rank: 4, seed: 1 });
  sampling = await service.createSamplingClient({ baseModel: tinker.DEFAULT_BASE_MODEL });
  tokenizer = await training.getTokenizer();
});
afterAll(() => service.dispose());

const input = (text: string): tinker.ModelInput => tinker.ModelInput.fromInts(tokenizer.encode(text));
const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
const close = (actual: number, expected: number): void =>
  expect(Math.abs(actual - expected), `${actual} is not ${expected}`).toBeLessThan(2e-3);

/** Row i: log-probabilities of every token after `tokens[0..i]`. */
async function distributions(tokens: readonly number[]): Promise<number[][]> {
  const lossFnInputs = {
    target_tokens: tokens.map(() => vocabulary),
    weights: tokens.map(() => vocabulary.map(() => 0)),
  };
  const datum = new tinker.Datum({ modelInput: tinker.ModelInput.fromInts(tokens), lossFnInputs });
  const { lossFnOutputs } = await training.forward([datum], 'cross_entropy');
  return lossFnOutputs[0]!.logprobs!.toNested() as number[][];
}

const total = (row: readonly number[]): number => Math.log(sum(row.map((x) => Math.exp(x))));

/** The distribution at a temperature: log softmax(row / τ). */
function atTemperature(row: readonly number[], temperature: number): number[] {
  const scaled = row.map((x) => x / temperature);
  const norm = total(scaled);
  return scaled.map((x) => x - norm);
}

async function sample(
  text: string,
  samplingParams: tinker.SamplingParamsInit,
  numSamples = 1,
): Promise<readonly tinker.SampledSequence[]> {
  return (await sampling.sample({ prompt: input(text), numSamples, samplingParams })).sequences;
}

/** Each sampled token of a text with its log-probability and the distribution it came from. */
async function drawn(
  text: string,
  { tokens, logprobs }: tinker.SampledSequence,
): Promise<{ id: number; logprob: number; row: number[] }[]> {
  const prompt = tokenizer.encode(text);
  const rows = await distributions([...prompt, ...tokens].slice(0, -1));
  return tokens.map((id, i) => ({ id, logprob: logprobs[i]!, row: rows[prompt.length - 1 + i]! }));
}

test.each<[string, tinker.SamplingParamsInit]>([
  ['no limits', {}],
  ['top-k', { topK: 3 }],
  ['top-p', { topP: 0.5 }],
])('sampled log-probabilities are at the temperature, before any cut: %s', async (_, limits) => {
  for (const temperature of [0.5, 2]) {
    const params = { maxTokens: 8, seed: 5, temperature, stop: [], ...limits };
    for (const sequence of await sample(COPY, params, 2)) {
      expect(sequence.logprobs).toHaveLength(sequence.tokens.length);
      for (const { id, logprob, row } of await drawn(COPY, sequence)) {
        close(total(row), 0);
        const scaled = atTemperature(row, temperature);
        close(logprob, scaled[id]!);
        // a little above: ties may fall either way
        const likelier = scaled.filter((x) => x > scaled[id]! + 1e-3);
        if (limits.topK) expect(likelier.length).toBeLessThan(limits.topK);
        if (limits.topP) expect(sum(likelier.map((x) => Math.exp(x)))).toBeLessThan(limits.topP + 1e-3);
      }
    }
  }
});

test.each<[string, tinker.SamplingParamsInit]>([
  ['temperature 0', { temperature: 0 }],
  ['top-k 1', { topK: 1 }],
])('%s takes the likeliest token, with its log-probability at temperature 1', async (_, params) => {
  const [sequence] = await sample(COPY, { maxTokens: 12, stop: [], ...params });
  for (const { id, logprob, row } of await drawn(COPY, sequence!)) {
    close(row[id]!, Math.max(...row));
    close(logprob, row[id]!);
  }
});

test('a seed fixes samples; those of one request differ, and so do those of no seed', async () => {
  const draw = async (seed: number | null): Promise<string[]> =>
    (await sample('Once upon', { maxTokens: 20, seed }, 3)).map(({ tokens }) => tokens.join());
  const seven = await draw(7);
  expect(await draw(7)).toEqual(seven);
  const random = [...(await draw(null)), ...(await draw(null))];
  expect(new Set([...seven, ...(await draw(8)), ...random]).size).toBe(12);
});

test('stops are part of the answer, wherever the tokens of a string begin and end', async () => {
  const greedy = async (text: string, stop: tinker.Stop | null): Promise<[string, string]> => {
    const [sequence] = await sample(text, { temperature: 0, maxTokens: 30, stop });
    return [tokenizer.decode(sequence!.tokens), sequence!.stopReason];
  };
  const [free, reason] = await greedy(COPY, []);
  expect(reason).toBe('length');
  const until = (text: string): [string, string] => {
    expect(free).toContain(text);
    return [free.slice(0, free.indexOf(text) + text.length), 'stop'];
  };
  expect(await greedy(COPY, 'nan')).toEqual(until('nan'));
  expect(await greedy(COPY, ['nowhere', 'split', 'ana s'])).toEqual(until('ana s'));
  expect(await greedy(COPY, tokenizer.encode('n'))).toEqual(until('n'));

  // the model's own end stops, too, unless the list of stops is empty
  expect(await greedy(SPELL, null)).toEqual(['c-a-t<|im_end|>', 'stop']);
  expect(await greedy(SPELL, ['nowhere'])).toEqual(['c-a-t<|im_end|>', 'stop']);
  expect(await greedy(SPELL, [END])).toEqual(['c-a-t<|im_end|>', 'stop']);
  const [beyond, end] = await greedy(SPELL, []);
  expect(beyond).toMatch(/^c-a-t<\|im_end\|>./s);
  expect(end).toBe('length');
});

test('without a limit the context is one; more than it holds is refused', async () => {
  const tokens = Array.from({ length: CONTEXT - 12 }, (_, i) => 97 + (i % 26));
  const long = await sampling.sample({
    prompt: tinker.ModelInput.fromInts(tokens),
    samplingParams: { stop: [] },
  });
  expect(long.sequences[0]).toMatchObject({ stopReason: 'length' });
  expect(long.sequences[0]!.tokens).toHaveLength(12);
  const tooMuch = sampling.sample({
    prompt: tinker.ModelInput.fromInts(tokens),
    samplingParams: { maxTokens: 13 },
  });
  await expect(tooMuch).rejects.toMatchObject({ name: 'BadRequestError', statusCode: 400 });
});

test('a prompt’s log-probabilities, and the likeliest tokens at each of its places', async () => {
  const tokens = tokenizer.encode('The capital of France is');
  const prompt = tinker.ModelInput.fromInts(tokens);
  const rows = await distributions(tokens);
  const logprobs = await sampling.computeLogprobs(prompt);
  const { promptLogprobs, topkPromptLogprobs } = await sampling.sample({
    prompt,
    samplingParams: { maxTokens: 1 },
    topkPromptLogprobs: 6,
  });
  expect(promptLogprobs).toBe(null);
  expect(logprobs).toHaveLength(tokens.length);
  const [first, ...likeliest] = topkPromptLogprobs!.toRows();
  expect([logprobs[0], first]).toEqual([null, null]);
  expect(likeliest).toHaveLength(tokens.length - 1);
  likeliest.forEach((cells, i) => {
    const row = rows[i]!;
    close(logprobs[i + 1]!, row[tokens[i + 1]!]!);
    const best = row.toSorted((a, b) => b - a);
    expect(cells).toHaveLength(6);
    cells!.forEach(([id, logprob], rank) => {
      close(logprob, row[id]!);
      close(logprob, best[rank]!);
    });
  });
});

test('losses and gradients add up over datums and calls, until a step takes them or a load drops them', async () => {
  const datum = (text: string, weight: number): tinker.Datum => {
    const tokens = tokenizer.encode(text);
    const lossFnInputs = { target_tokens: tokens.slice(1), weights: tokens.slice(1).map(() => weight) };
    return new tinker.Datum({ modelInput: tinker.ModelInput.fromInts(tokens.slice(0, -1)), lossFnInputs });
  };
  const [a, b] = [datum('banana split', 0.5), datum('quantum', -0.25)];
  const lossOf = async (...data: tinker.Datum[]): Promise<number> =>
    (await training.forwardBackward(data, 'cross_entropy')).metrics['loss:sum']!;
  const norm = async (gradClipNorm = 0): Promise<number> =>
    (await training.optimStep({ learningRate: 0, gradClipNorm })).metrics['grad_norm:mean']!;

  const { lossFnOutputs } = await training.forward([a], 'cross_entropy');
  const alone = await lossOf(a);
  close(alone, -0.5 * sum(lossFnOutputs[0]!.logprobs!.toArray()));
  const other = await lossOf(b);
  // before clipping
  const inTwoCalls = await norm(0.01);
  close(await lossOf(a, b), alone + other);
  close((await norm()) / inTwoCalls, 1);
  expect(await norm()).toBe(0);

  const { path } = await training.saveState('semantics');
  await lossOf(a);
  await training.loadStateWithOptimizer(path);
  expect(await norm()).toBe(0);
});
