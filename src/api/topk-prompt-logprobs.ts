/** The likeliest tokens at each place of a prompt. */
import type { TopkPromptLogprobsPayload } from './contract/types';

/** What fills cells that have no token. */
const EMPTY_LOGPROB = -99999;

/** Token id and log-probability. */
export type TokenLogprob = readonly [id: number, logprob: number];

/**
 * Two dense `(P, K)` matrices over a prompt of P tokens, and the same as rows. Row i holds the K
 * likeliest tokens at place i given those before it, likeliest first, at temperature 1. Row 0 has none.
 */
export class TopkPromptLogprobs {
  /** columns */
  readonly k: number;
  /** (P · K) row-major; an empty cell is 0 with log-probability −99999 */
  readonly tokenIds: Int32Array<ArrayBuffer>;
  /** (P · K) row-major, nats */
  readonly logprobs: Float32Array<ArrayBuffer>;

  constructor({ k, tokenIds, logprobs }: TopkPromptLogprobsPayload) {
    this.k = k;
    this.tokenIds = tokenIds;
    this.logprobs = logprobs;
  }

  /** Rows: the length of the prompt. */
  get length(): number {
    return this.k === 0 ? 0 : this.tokenIds.length / this.k;
  }

  /** Pairs of token id and log-probability, likeliest first; null where nothing was computed, as at place 0. */
  row(i: number): TokenLogprob[] | null {
    const cells: TokenLogprob[] = [];
    for (let at = i * this.k; at < (i + 1) * this.k; at++) {
      const [id, logprob] = [this.tokenIds[at]!, this.logprobs[at]!];
      if (id !== 0 || logprob !== EMPTY_LOGPROB) cells.push([id, logprob]);
    }
    return cells.length > 0 ? cells : null;
  }

  /** All rows, as the Python SDK's `topk_prompt_logprobs` has them. */
  toRows(): (TokenLogprob[] | null)[] {
    return Array.from({ length: this.length }, (_, i) => this.row(i));
  }
}
