/** How likely a prompt is, from what `promptTrace` reads back. */
import { RequestFailedError } from '../api/contract/errors';
import type { SamplePayload, TopkPromptLogprobsPayload } from '../api/contract/types';
import type { HostArray } from '../kernels/op';

export type PromptScores = Pick<SamplePayload, 'promptLogprobs' | 'topkPromptLogprobs'>;

/** Log-probability of an empty cell. */
const EMPTY = -99999;

/** Results of a prompt without its last token, row t being the place t + 1. */
export interface PromptRows {
  /** (T) */
  readonly logprob: HostArray;
  /** (T) */
  readonly lse: HostArray;
  /** (T · cells) the likeliest ids and their logits; undefined where none were asked for */
  readonly ids?: HostArray;
  readonly logits?: HostArray;
}

/**
 * @param k tokens listed at each place; those that the vocabulary does not have are empty cells
 * @throws RequestFailedError NonFiniteInTensor
 */
export function promptScores({ logprob, lse, ids, logits }: PromptRows, k: number): PromptScores {
  const T = logprob.length;
  const broken = logprob.findIndex((x) => !Number.isFinite(x));
  if (broken >= 0) {
    throw new RequestFailedError(
      `NonFiniteInTensor: the logits at token ${broken + 1} of the prompt are not finite; go back to an earlier checkpoint`,
      { category: 'user' },
    );
  }
  const promptLogprobs = [null, ...logprob];
  if (k === 0) return { promptLogprobs, topkPromptLogprobs: null };
  const topk: TopkPromptLogprobsPayload = {
    k,
    tokenIds: new Int32Array((T + 1) * k),
    logprobs: new Float32Array((T + 1) * k).fill(EMPTY),
  };
  const cells = T === 0 ? 0 : ids!.length / T;
  for (let t = 0; t < T; t++) {
    for (let c = 0; c < cells; c++) {
      topk.tokenIds[(t + 1) * k + c] = ids![t * cells + c]!;
      // a logit never exceeds the log-sum-exp but by rounding
      topk.logprobs[(t + 1) * k + c] = Math.min(0, logits![t * cells + c]! - lse[t]!);
    }
  }
  return { promptLogprobs, topkPromptLogprobs: topk };
}
