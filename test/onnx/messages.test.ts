/** Runs of the WebAssembly runtime are synchronous: its worker must look at its messages between them all the same. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { AbortedError, ModelInput, ServiceClient, type SamplingClient } from '../../src/index';

const PROMPT = ModelInput.fromInts([...new TextEncoder().encode('It was the best of times, ')]);
const LENGTH = 400;

let service: ServiceClient;
let client: SamplingClient;
beforeAll(async () => {
  service = new ServiceClient({ device: 'wasm' });
  client = await service.createSamplingClient({ baseModel: 'webtinker/pocket' });
  await client.sample({ prompt: PROMPT, samplingParams: { maxTokens: 2 } });
});
afterAll(() => service?.dispose());

const stream = (signal?: AbortSignal) =>
  client.stream({
    prompt: PROMPT,
    samplingParams: { maxTokens: LENGTH, temperature: 1, seed: 1, stop: [] },
    signal,
  });

it('a sample is given up while it is drawn, not when it has ended', async () => {
  const stop = new AbortController();
  let drawn = 0;
  const read = async (): Promise<void> => {
    for await (const { tokens } of stream(stop.signal)) {
      drawn += tokens.length;
      stop.abort();
    }
  };
  await expect(read()).rejects.toThrow(AbortedError);
  expect(drawn).toBeGreaterThan(0);
  expect(drawn).toBeLessThan(LENGTH / 2);
});

it('who asks while another samples does not wait for all of it', async () => {
  const other = await service.createSamplingClient({ baseModel: 'webtinker/pocket' });
  let drawn = 0;
  let then: number | undefined;
  let asked: Promise<void> | undefined;
  for await (const { tokens } of stream()) {
    drawn += tokens.length;
    asked ??= (async () => {
      await other.sample({ prompt: PROMPT, samplingParams: { maxTokens: 2 } });
      then = drawn;
    })();
  }
  await asked;
  expect(drawn).toBe(LENGTH);
  expect(then).toBeLessThan(LENGTH / 2);
});
