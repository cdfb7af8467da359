/** What becomes of sampled tokens as they land. */
import { RequestFailedError } from '../api/contract/errors';
import type { SampledSequencePayload, SampledTokensPayload } from '../api/contract/types';
import type { HostArray } from '../kernels/op';
import { type decodeStateLayout, DONE } from '../kernels/sample/sample';
import { StopMatcher, type Decode } from './tokenizer';

interface Sample {
  readonly tokens: number[];
  readonly logprobs: number[];
  stopReason: 'stop' | 'length' | undefined;
  readonly matcher: StopMatcher;
}

/** Gathers tokens as they land, decides where each sample ends, and hands them on. */
export class Collector {
  readonly #samples: Sample[];

  constructor(
    /** index of the first sample in the request */
    private readonly first: number,
    count: number,
    private readonly maxTokens: number,
    stopStrings: readonly string[],
    decode: Decode,
    private readonly onTokens: ((event: SampledTokensPayload) => void) | undefined,
  ) {
    this.#samples = Array.from({ length: count }, () => ({
      tokens: [],
      logprobs: [],
      stopReason: undefined,
      matcher: new StopMatcher(decode, stopStrings),
    }));
  }

  /** Takes in what has been sampled so far; true when every sample has ended. */
  take(landed: Record<string, HostArray>, layout: ReturnType<typeof decodeStateLayout>): boolean {
    this.#samples.forEach((sample, b) => {
      if (sample.stopReason) return;
      const known = sample.tokens.length;
      this.#takeSample(sample, b, landed, layout);
      if (sample.tokens.length === known) return;
      this.onTokens?.({
        sequence: this.first + b,
        tokens: sample.tokens.slice(known),
        logprobs: sample.logprobs.slice(known),
        stopReason: sample.stopReason ?? null,
      });
    });
    return this.#samples.every((s) => s.stopReason);
  }

  #takeSample(
    sample: Sample,
    b: number,
    { state, tokens, logprobs }: Record<'state' | 'tokens' | 'logprobs', HostArray>,
    layout: ReturnType<typeof decodeStateLayout>,
  ): void {
    const steps = state[layout.steps + b]!;
    const done = state[layout.done + b]!;
    for (let s = sample.tokens.length; s < steps && !sample.stopReason; s++) {
      const token = tokens[b * this.maxTokens + s]!;
      const logprob = logprobs[b * this.maxTokens + s]!;
      if (!Number.isFinite(logprob))
        throw new RequestFailedError(`NonFiniteInTensor: the logits of sample ${b} are not finite`, {
          category: 'user',
        });
      sample.tokens.push(token);
      sample.logprobs.push(logprob);
      if (sample.matcher.push(token)) sample.stopReason = 'stop';
    }
    if (!sample.stopReason && done !== DONE.running) {
      sample.stopReason = done === DONE.stop ? 'stop' : 'length';
    }
  }

  sequences(): SampledSequencePayload[] {
    return this.#samples.map(({ tokens, logprobs, stopReason }) => ({
      tokens,
      logprobs,
      stopReason: stopReason ?? 'length',
    }));
  }
}
