/** Sampled tokens on their way to the caller, when the request that samples them may have to be run again. */
import { DeviceLostError } from '../api/contract/errors';
import type { SampledTokensPayload } from '../api/contract/types';

type OnTokens = (event: SampledTokensPayload) => void;

/** Hands every token on once, however often the request is run. */
export class TokenStream {
  /** handed on so far, by sequence */
  readonly #sent = new Map<number, number[]>();

  constructor(private readonly onTokens: OnTokens) {}

  /**
   * What the next run of the request hands its tokens to.
   * It throws DeviceLostError if they are others than those handed on before: on another kind of device a tie may
   * fall the other way.
   */
  again(): OnTokens {
    const seen = new Map<number, number>();
    return (event) => {
      const { sequence, tokens, logprobs } = event;
      const sent = this.#sent.get(sequence) ?? [];
      this.#sent.set(sequence, sent);
      const start = seen.get(sequence) ?? 0;
      seen.set(sequence, start + tokens.length);
      const known = Math.min(tokens.length, sent.length - start);
      for (let i = 0; i < known; i++) {
        if (tokens[i] === sent[start + i]) continue;
        throw new DeviceLostError(
          'The device was lost while this request handed on tokens, and the next one samples others; sample again.',
        );
      }
      if (known === tokens.length) return;
      sent.push(...tokens.slice(known));
      this.onTokens({ ...event, tokens: tokens.slice(known), logprobs: logprobs.slice(known) });
    };
  }
}
