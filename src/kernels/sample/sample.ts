/**
 * The next token of every sample, and the bookkeeping that lets the following decode pass run without the host.
 * Semantics: temperature 0 is greedy (lowest id among equals) with the log-probability at temperature 1; else the
 * log-probability is that under softmax(logits / temperature) over the whole vocabulary, top-k keeps the k largest
 * (lower ids first among equals), and top-p keeps, of those, the shortest run of largest whose renormalised mass reaches p.
 */
import { kernel, spread } from '../kernel';
import { fixed, op, sizeOf, type RunValues, type Size, type TensorRef } from '../op';
import { decodeStateLayout } from './decode-state';
import type { Rule } from './distribution';
import philox from './philox.wgsl?raw';
import { sampleHost } from './sample.host';
import code from './sample.wgsl?raw';

export * from './decode-state';

const sampleKernel = kernel({
  name: 'sample',
  code: philox + code,
  bindings: {
    logits: { elem: 'f32', access: 'read' },
    stop: { elem: 'u32', access: 'read' },
    state: { elem: 'u32', access: 'read_write' },
    out_tokens: { elem: 'u32', access: 'read_write' },
    // f32 as bits, so that a NaN can be written
    out_logprobs: { elem: 'u32', access: 'read_write' },
  },
  params: {
    samples: 'u32',
    vocabulary: 'u32',
    shared_logits: 'u32',
    stride: 'u32',
    temperature: 'f32',
    top_k: 'u32',
    top_p: 'f32',
    seed_lo: 'u32',
    seed_hi: 'u32',
    max_steps: 'u32',
    stop_count: 'u32',
  },
});

/** Run values that `sample` reads, equal for all samples of the request. */
export interface SampleValues {
  /** ≥ 0; 0 is greedy */
  readonly temperature: number;
  /** 0 is off */
  readonly top_k: number;
  /** in (0, 1]; 1 is off */
  readonly top_p: number;
  /** the seed's words (`seedWords`) */
  readonly seed_lo: number;
  readonly seed_hi: number;
  /** tokens a sample may have in all, and the row length of the outputs */
  readonly max_steps: number;
  /** valid entries of `stop` */
  readonly stop_count: number;
}

export interface SampleAttrs {
  /** capacity of the decode state */
  readonly batch: number;
  /** true: row 0 of the logits is every sample's (the prompt's last position) */
  readonly sharedLogits: boolean;
}

export type SampleInputs = {
  readonly logits: TensorRef;
  readonly state: TensorRef;
  readonly out_tokens: TensorRef;
  readonly out_logprobs: TensorRef;
  readonly stop: TensorRef;
};

export type SampleOutput = 'state' | 'out_tokens' | 'out_logprobs';

/** Greedy decoding is top-1 at temperature 1. */
function ruleOf(v: RunValues): Rule {
  const temperature = sizeOf('temperature', v);
  if (temperature === 0) return { temperature: 1, topK: 1, topP: 1 };
  return { temperature, topK: sizeOf('top_k', v), topP: sizeOf('top_p', v) };
}

/**
 * logits (B, V), or (1, V) when shared; state: the decode state (`decodeStateLayout(batch)`); out_tokens and
 * out_logprobs: at least B·max_steps; stop: token ids that end a sample (the end-of-sequence ids among them).
 * Everything but logits and stop is updated in place. The number of samples is the run value `B` if the logits are
 * shared, else the rows of the logits; further run values: `SampleValues`.
 *
 * For every sample b that is not done, at its step s: draws a token; out_tokens[b·S + s], out_logprobs[b·S + s]
 * (S = max_steps) are written; tokens = token, rows = own_start + own_len, positions = prefix_len + own_len; then
 * own_len += 1, steps += 1. If the token is a stop or the last one allowed: done is set, rows = NO_ROW and own_len = 0
 * instead, and later launches leave the sample alone. Nothing initialises the outputs: entries from `steps` on mean nothing.
 *
 * A draw is Philox(key = seed, counter = [step, index, 0, 0]), so it does not depend on the rest of the batch;
 * it picks the first token, in order of ids, at which the mass of the kept tokens exceeds it.
 * The log-probability is NaN if any of the logits is NaN or infinite; the token is then an id, but means nothing.
 */
export const sample = op({
  name: 'sample',
  outputs: (inputs: SampleInputs, { batch }: SampleAttrs) => {
    const { length } = decodeStateLayout(batch);
    if (inputs.state.shape[0] !== length) {
      throw new Error(
        `sample: the state of ${batch} samples has ${length} elements, got ${inputs.state.shape[0]}`,
      );
    }
    return {
      state: { shape: inputs.state.shape, dtype: 'u32', inPlace: 'state' },
      out_tokens: { shape: inputs.out_tokens.shape, dtype: 'u32', inPlace: 'out_tokens' },
      out_logprobs: { shape: inputs.out_logprobs.shape, dtype: 'f32', inPlace: 'out_logprobs' },
    };
  },
  webgpu: ({ inputs: { logits, stop }, outputs, attrs: { batch, sharedLogits } }, { kind }) => {
    const samples: Size = sharedLogits ? 'B' : logits.shape[0]!;
    const vocabulary = fixed(logits.shape[1], 'vocabulary');
    const { stride } = decodeStateLayout(batch);
    return [
      {
        kernel: sampleKernel,
        // barriers cost by the invocation on software adapters, so few there
        constants: { LANES: kind === 'software' ? 8 : 256 },
        bind: { logits, stop, ...outputs },
        params: (v) => {
          const { temperature, topK: top_k, topP: top_p } = ruleOf(v);
          return {
            samples: sizeOf(samples, v),
            vocabulary,
            shared_logits: sharedLogits ? 1 : 0,
            stride,
            temperature,
            top_k,
            top_p,
            seed_lo: sizeOf('seed_lo', v),
            seed_hi: sizeOf('seed_hi', v),
            max_steps: sizeOf('max_steps', v),
            stop_count: sizeOf('stop_count', v),
          };
        },
        grid: (v) => spread(sizeOf(samples, v)),
      },
    ];
  },
  host: (node, array, v) => sampleHost(node, ruleOf(v), array, v),
});
