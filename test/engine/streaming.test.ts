/** Tokens as they arrive: the same as in the result, in order, and none after the end. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import type {
  SampledTokensPayload,
  SamplePayload,
  SamplingParamsPayload,
} from '../../src/api/contract/types';
import type { Engine } from '../../src/engine/engine';
import { decoderOf } from '../../src/engine/tokenizer';
import { createSampler, GREEDY, loadFixture, openEngine } from '../support/engine';

let engine: Engine;
let samplerId: string;
let prompt: readonly number[];

beforeAll(async () => {
  engine = await openEngine();
  samplerId = await createSampler(engine, { base: 'untied' });
  prompt = (await loadFixture('untied')).greedy.base.prompt;
});
afterAll(() => engine?.dispose());

async function stream(
  params: Partial<SamplingParamsPayload>,
  numSamples = 1,
): Promise<{ result: SamplePayload; events: SampledTokensPayload[]; late: number }> {
  const events: SampledTokensPayload[] = [];
  const request = { samplerId, prompt, numSamples, promptLogprobs: false, topkPromptLogprobs: 0 };
  const result = await engine.sample(
    { ...request, params: { ...GREEDY, ...params } },
    { onTokens: (event) => events.push(event) },
  );
  const now = events.length;
  await new Promise((done) => setTimeout(done, 20));
  return { result, events, late: events.length - now };
}

/** Puts the events of each sequence together again. */
function joined(events: readonly SampledTokensPayload[], sequences: number): SamplePayload['sequences'] {
  return Array.from({ length: sequences }, (_, i) => {
    const own = events.filter((event) => event.sequence === i);
    for (const { tokens, logprobs } of own) expect(logprobs).toHaveLength(tokens.length);
    for (const { stopReason } of own.slice(0, -1)) expect(stopReason).toBeNull();
    return {
      stopReason: own.at(-1)!.stopReason!,
      tokens: own.flatMap((event) => event.tokens),
      logprobs: own.flatMap((event) => event.logprobs),
    };
  });
}

it('events add up to the result, flight by flight', async () => {
  const { result, events, late } = await stream({ maxTokens: 30 });
  expect(joined(events, 1)).toEqual(result.sequences);
  expect(events.length).toBeGreaterThan(4);
  expect(late).toBe(0);
});

it('tells several sequences apart, also over more than one wave', async () => {
  const { result, events } = await stream({ maxTokens: 6, temperature: 1.5, seed: 5 }, 70);
  expect(result.sequences).toHaveLength(70);
  expect(joined(events, 70)).toEqual(result.sequences);
});

it('nothing comes after a stop string or a stop token', async () => {
  const whole = (await stream({ maxTokens: 24 })).result.sequences[0]!.tokens;
  const decode = decoderOf(await engine.getTokenizer('untied'));
  const at = 9;
  const text = decode(whole.slice(0, at + 1)).slice(decode(whole.slice(0, at - 1)).length);
  for (const stop of [{ stopStrings: [text] }, { stopTokens: [whole[at]!] }]) {
    const { result, events } = await stream({ maxTokens: 24, ...stop });
    const [sequence] = joined(events, 1);
    expect([sequence]).toEqual(result.sequences);
    expect(sequence!.stopReason).toBe('stop');
    expect(sequence!.tokens.length).toBeLessThanOrEqual(at + 1);
    expect(events.at(-1)!.stopReason).toBe('stop');
  }
});
