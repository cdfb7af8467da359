/** Sampling from the default model: tokens per second of prefill, and of decoding 1 and 8 samples. */
import { ModelInput, ServiceClient } from '../src/index';
import { expectAgreement, interleave, median, seeded, type Bench } from './harness';

const PROMPT = 256;
const NEW = 64;

const bench: Bench = async (context) => {
  const service = new ServiceClient();
  const sampler = await service.createSamplingClient({ baseModel: 'webtinker/pocket' });
  const next = seeded(6);
  // letters and spaces: token ids of the byte-level vocabulary
  const bytes = (n: number): number[] => Array.from({ length: n }, () => 97 + Math.floor(next() * 26));
  const long = ModelInput.fromInts(bytes(PROMPT));
  const short = ModelInput.fromInts(bytes(16));
  const sample = (prompt: ModelInput, numSamples: number, maxTokens: number) =>
    sampler.sample({ prompt, numSamples, samplingParams: { maxTokens, temperature: 1, seed: 1 } });

  // decoding with the cache gives each token the log-probability that one pass over the whole text gives it
  const checked = await sample(short, 2, 24);
  for (const { tokens, logprobs } of checked.sequences) {
    const whole = ModelInput.fromInts([...short.toInts(), ...tokens]);
    const expected = (await sampler.computeLogprobs(whole)).slice(short.length) as number[];
    expectAgreement('log-probabilities of sampled tokens', logprobs, expected, 1e-3);
  }

  const generated = new Map<number, number>();
  const decode = async (numSamples: number): Promise<void> => {
    const { sequences } = await sample(short, numSamples, NEW);
    generated.set(
      numSamples,
      sequences.reduce((n, s) => n + s.tokens.length, 0),
    );
  };
  const rounds = await interleave(
    {
      start1: async () => void (await sample(short, 1, 1)),
      decode1: () => decode(1),
      start8: async () => void (await sample(short, 8, 1)),
      decode8: () => decode(8),
      prefill: async () => void (await sample(long, 1, 1)),
    },
    context.rounds,
  );
  const name = 'sample webtinker/pocket';
  // what follows the first token of every sample, per second of the time that follows it
  const rate = (numSamples: number, start: readonly number[], whole: readonly number[]): number =>
    (1000 * (generated.get(numSamples)! - numSamples)) / median(whole.map((t, i) => t - start[i]!));
  context.row(`${name}, 1 sample`, 'webtinker', rate(1, rounds.start1, rounds.decode1), 'tokens/s', 'higher');
  context.row(
    `${name}, 8 samples`,
    'webtinker',
    rate(8, rounds.start8, rounds.decode8),
    'tokens/s',
    'higher',
  );
  context.row(
    `${name}, prefill of ${PROMPT}`,
    'webtinker',
    (1000 * PROMPT) / median(rounds.prefill),
    'tokens/s',
    'higher',
  );
  context.row(`${name}, first token of a short prompt`, 'webtinker', median(rounds.start1), 'ms', 'lower');
  await service.dispose();
};

export default bench;
