/** Tokens as they come, over the real engine. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  AbortedError,
  BadRequestError,
  Datum,
  ModelInput,
  ServiceClient,
  UnsupportedError,
  type SampledTokens,
  type SampleOptions,
  type SamplingClient,
} from '../../src/index';

let service: ServiceClient;
let sampler: SamplingClient;
const prompt = ModelInput.fromInts([1, 5, 9, 13]);
const options: SampleOptions = { prompt, numSamples: 3, samplingParams: { maxTokens: 24, seed: 5 } };

beforeAll(async () => {
  service = new ServiceClient();
  sampler = await service.createSamplingClient({ baseModel: '/test/fixtures/models/tied/' });
});
afterAll(() => service.dispose());

const rejection = (promise: PromiseLike<unknown>): Promise<unknown> =>
  Promise.resolve(promise).then(
    () => expect.fail('it resolved'),
    (error: unknown) => error,
  );

describe('a stream', () => {
  it('gives every token once, in order for each sequence, and then the response of sample', async () => {
    const expected = await sampler.sample(options);
    const stream = sampler.stream(options);
    const events: SampledTokens[] = [];
    for await (const event of stream) events.push(event);
    expect(events.length).toBeGreaterThan(expected.sequences.length);
    const joined = expected.sequences.map((_, i) => {
      const own = events.filter(({ sequence }) => sequence === i);
      return {
        stopReason: own.at(-1)!.stopReason,
        tokens: own.flatMap(({ tokens }) => tokens),
        logprobs: own.flatMap(({ logprobs }) => logprobs),
        early: own.slice(0, -1).every(({ stopReason }) => stopReason === null),
      };
    });
    expect(joined).toEqual(expected.sequences.map((sequence) => ({ ...sequence, early: true })));
    expect(await stream.response).toEqual(expected);
  });

  it('gives its first tokens before the last ones are sampled', async () => {
    const long = { ...options, samplingParams: { maxTokens: 50, seed: 5 } };
    const stream = sampler.stream(long);
    const order: string[] = [];
    const ended = stream.response.then(() => order.push('response'));
    for await (const { tokens } of stream) {
      expect(tokens.length).toBeLessThan(50);
      order.push('tokens');
    }
    await ended;
    expect(order[0]).toBe('tokens');
    expect(order.at(-1)).toBe('response');
  });

  it('need not be read: its response comes all the same, and what was missed can be read after', async () => {
    const stream = sampler.stream(options);
    const { sequences } = await stream.response;
    const tokens: number[] = [];
    for await (const event of stream) if (event.sequence === 0) tokens.push(...event.tokens);
    expect(tokens).toEqual(sequences[0]!.tokens);
  });

  it('left early ends the sampling, and the sampler goes on', async () => {
    const stream = sampler.stream(options);
    for await (const { tokens } of stream) {
      expect(tokens.length).toBeGreaterThan(0);
      break;
    }
    expect(await rejection(stream.response)).toBeInstanceOf(AbortedError);
    const { sequences } = await sampler.sample(options);
    expect(sequences.length).toBe(3);
  });

  it('ends with the error of the request, in the loop and in the response', async () => {
    const stream = sampler.stream({ ...options, samplingParams: { maxTokens: 0 } });
    const read = async (): Promise<void> => {
      for await (const _ of stream) expect.fail('there are no tokens');
    };
    expect(await rejection(read())).toBeInstanceOf(BadRequestError);
    expect(await rejection(stream.response)).toBeInstanceOf(BadRequestError);
  });

  it('ends when its signal fires', async () => {
    const controller = new AbortController();
    const stream = sampler.stream({ ...options, signal: controller.signal });
    const read = async (): Promise<void> => {
      for await (const _ of stream) controller.abort('enough');
    };
    expect(await rejection(read())).toMatchObject({ name: 'AbortedError' });
  });
});

it('sampling of an image is refused: the engine reads text', async () => {
  const image = { type: 'image', data: Uint8Array.of(1), format: 'png', expectedTokens: 2 } as const;
  const options = { prompt: prompt.append(image), samplingParams: { maxTokens: 1 } };
  expect(await rejection(sampler.sample(options))).toBeInstanceOf(UnsupportedError);
  expect(await rejection(sampler.stream(options).response)).toBeInstanceOf(UnsupportedError);
  expect(await rejection(sampler.computeLogprobs(options.prompt))).toMatchObject({
    message: expect.stringContaining('prompt.chunks[1]: images are not there') as string,
  });
});

describe('giving up', () => {
  it('drops samples that wait, by the signal of the call or of a result', async () => {
    const controller = new AbortController();
    const first = sampler.sample(options);
    const bySignal = sampler.sample({ ...options, signal: controller.signal });
    const byResult = sampler.sample(options);
    const last = sampler.computeLogprobs(prompt);
    controller.abort('enough');
    expect(await rejection(byResult.result({ signal: controller.signal }))).toBeInstanceOf(AbortedError);
    expect(await rejection(byResult)).toBeInstanceOf(AbortedError);
    expect(await rejection(bySignal)).toMatchObject({ code: 'aborted', cause: 'enough' });
    expect((await first).sequences.length).toBe(3);
    expect((await last).length).toBe(4);
  });

  it('drops training that waits as if it had never been called', async () => {
    const baseModel = '/test/fixtures/models/tied/';

    const lossFnInputs = { target_tokens: [5, 9, 13, 2], weights: [1, 1, 1, 1] };
    const batch = [new Datum({ modelInput: prompt, lossFnInputs })];
    const run = async (giveUp: boolean): Promise<number> => {
      await using model = await service.createLoraTrainingClient({ baseModel, rank: 4, seed: 1 });
      const controller = new AbortController();
      void model.forwardBackward(batch, 'cross_entropy');
      void model.optimStep({ learningRate: 1e-2 });
      if (giveUp) {
        const { signal } = controller;
        const dropped = [
          model.forwardBackward(batch, 'cross_entropy', {}, { signal }),
          model.optimStep({ learningRate: 1 }, { signal }),
          model.saveState('dropped', { signal }),
        ];
        controller.abort();
        for (const future of dropped) expect(await rejection(future)).toBeInstanceOf(AbortedError);
        expect(await rejection(model.optimStep({ learningRate: 1 }, { signal }))).toBeInstanceOf(
          AbortedError,
        );
      }
      return (await model.forward(batch, 'cross_entropy')).metrics['loss:sum']!;
    };
    expect(await run(true)).toBe(await run(false));
  });

  it('makes no client', async () => {
    const signal = AbortSignal.abort('enough');
    const before = await service.stats();
    const making = [
      service.createLoraTrainingClient({ signal }),
      service.createSamplingClient({ baseModel: '/test/fixtures/models/tied/', signal }),
    ];
    for (const client of making) expect(await rejection(client)).toBeInstanceOf(AbortedError);
    expect(await service.stats()).toMatchObject({ models: before.models, samplers: before.samplers });
  });
});
