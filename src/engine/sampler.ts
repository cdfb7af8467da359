/** A sampler: a base model, or a snapshot of an adapter on it, and the loop that generates with it. */
import { AbortedError } from '../api/contract/errors';
import type { SampleCallOptions, SampleRequest } from '../api/contract/backend';
import type { SampledSequencePayload, SamplePayload, SamplingParamsPayload } from '../api/contract/types';
import type { HostArray } from '../kernels/op';
import { seedWords } from '../kernels/philox';
import { decodeStateLayout, initialDecodeState } from '../kernels/sample/sample';
import type { BaseModel } from './base-model';
import { packSequences } from './batch';
import { Collector } from './collector';
import { decodeCapacity, type DecodeContext, type DecodeContextPool } from './decode-context';
import type { BoundPlan, DeviceBuffer, RunOptions } from './devices/device';
import type { MergedWeights } from './merged-weights';
import type { AdapterLayout } from './program/adapter';
import { layoutKey } from './shared-base';
import { promptTrace } from './program/steps';
import { promptScores, type PromptRows, type PromptScores } from './prompt-scores';
import { gaveUp } from './scheduler';
import type { Decode } from './tokenizer';
import type { Turns } from './turns';

/** Most samples decoded side by side; a request for more runs in waves. */
const WAVE = 64;

/** One request, and the wave of it that is sampled now. */
interface Wave {
  readonly prompt: readonly number[];
  readonly params: SamplingParamsPayload & { readonly maxTokens: number; readonly seed: number };
  /** index of its first sample in the request */
  readonly first: number;
  readonly count: number;
  /** fires when nobody wants the rest */
  readonly signal: AbortSignal;
  readonly onTokens: SampleCallOptions['onTokens'];
}

/** An adapter frozen at the time the sampler was made. */
export interface SamplerAdapter {
  readonly layout: AdapterLayout;
  readonly params: DeviceBuffer;
  /** null on a device that leaves adapters in parts */
  readonly merged: MergedWeights | null;
}

export class Sampler {
  readonly #gone = new AbortController();

  constructor(
    readonly id: string,
    readonly base: BaseModel,
    readonly adapter: SamplerAdapter | null,
    private readonly pool: DecodeContextPool,
    private readonly decode: Decode,
    private readonly turns: Turns,
  ) {}

  /** @throws AbortedError when `signal` fires or the sampler is abandoned; the flight under way lands first */
  async sample(
    { prompt, numSamples, params, promptLogprobs, topkPromptLogprobs }: SampleRequest,
    { signal: given, onTokens }: SampleCallOptions = {},
  ): Promise<SamplePayload> {
    const signal = given ? AbortSignal.any([given, this.#gone.signal]) : this.#gone.signal;
    const seed = params.seed ?? Math.floor(Math.random() * Number.MAX_SAFE_INTEGER);
    const maxTokens = params.maxTokens ?? this.base.contextLength - prompt.length;
    const scored = promptLogprobs || topkPromptLogprobs > 0;
    const scores = scored ? await this.promptScores(prompt, topkPromptLogprobs, signal) : null;
    const sequences: SampledSequencePayload[] = [];
    for (let first = 0; first < numSamples; first += WAVE) {
      const count = Math.min(WAVE, numSamples - first);
      const wave = { prompt, params: { ...params, maxTokens, seed }, first, count, signal, onTokens };
      sequences.push(...(await this.#wave(wave)));
    }
    return {
      sequences,
      promptLogprobs: promptLogprobs ? scores!.promptLogprobs : null,
      topkPromptLogprobs: scores?.topkPromptLogprobs ?? null,
      promptCacheHitTokens: 0,
    };
  }

  /**
   * log p(prompt[i] | prompt[<i]) at temperature 1, entry 0 being null; and the `topk` likeliest tokens at each place.
   * @throws RequestFailedError NonFiniteInTensor
   */
  async promptScores(prompt: readonly number[], topk: number, signal?: AbortSignal): Promise<PromptScores> {
    const T = prompt.length - 1;
    if (T === 0) return promptScores({ logprob: new Float32Array(0), lse: new Float32Array(0) }, topk);
    const { base, adapter } = this;
    const layout = adapter?.layout ?? null;
    const key = `prompt${topk > 0 ? '.topk' : ''}/${layoutKey(layout)}`;
    const model = { config: base.config, adapter: layout };
    const R = T * Math.min(topk, base.config.vocabSize);
    const sizes = { T, C: T, ...(topk > 0 && { R }) };
    await base.plans.prepare(key, () => promptTrace(model, topk > 0), sizes);
    const run = (): Promise<Record<string, HostArray>> => {
      const states = adapter ? { 'lora.params': adapter.params } : {};
      const { inputs } = packSequences([prompt.slice(0, -1)]);
      return base.plans
        .ready(key)
        .bind(this.id, states)
        .run({
          values: sizes,
          inputs: { ...inputs, targets: Uint32Array.from(prompt.slice(1)) },
          read: topk > 0 ? ['logprob', 'lse', 'ids', 'logits'] : ['logprob', 'lse'],
        });
    };
    const { done } = await this.turns.submit(this.id, run, { signal });
    return promptScores((await done) as unknown as PromptRows, topk);
  }

  /** Stops sampling after the flight under way, and drops what waits for its turn. @param reason its rejection */
  abandon(reason: AbortedError): void {
    this.#gone.abort(reason);
  }

  /** Fires when it is abandoned. */
  get gone(): AbortSignal {
    return this.#gone.signal;
  }

  /** Frees its memory, when nothing runs any more. */
  dispose(): void {
    this.adapter?.merged?.forget(this.id);
    this.base.plans.unbind(this.id);
    if (this.adapter) this.base.device.memory.free(this.adapter.params);
  }

  /** Samples `first` … `first + count − 1` of a request, side by side. */
  #wave(wave: Wave): Promise<SampledSequencePayload[]> {
    const { prompt, params, count } = wave;
    const ends = params.stopAtEos ? this.base.config.eosTokenIds : [];
    const stops = [...new Set([...params.stopTokens, ...ends])];
    const capacity = decodeCapacity(count, prompt.length, params.maxTokens, stops.length);
    return this.pool.lend(this.adapter?.layout ?? null, capacity, this.id, (context) =>
      this.#generate(context, wave, stops),
    );
  }

  async #generate(
    context: DecodeContext,
    { prompt, params, first, count, signal, onTokens }: Wave,
    stops: readonly number[],
  ): Promise<SampledSequencePayload[]> {
    const { memory, pace } = this.base.device;
    const { maxTokens } = params;
    const P = prompt.length;
    const starts = Array.from({ length: count }, (_, i) => ({
      index: first + i,
      prefixStart: 0,
      prefixLength: P,
      ownStart: P + i * maxTokens,
    }));
    const [seed_lo, seed_hi] = seedWords(params.seed);
    const values = {
      T: P,
      B: count,
      temperature: params.temperature,
      top_k: Math.max(0, params.topK),
      top_p: params.topP,
      seed_lo,
      seed_hi,
      max_steps: maxTokens,
      stop_count: stops.length,
    };
    const rows = Uint32Array.from({ length: P }, (_, t) => t);
    const inputs = { ...packSequences([prompt]).inputs, rows, last: Uint32Array.of(P - 1) };
    const read = ['state', 'tokens', 'logprobs'];
    const { prefill, decode } = await context.bind(this.id, this.adapter, P);
    memory.write(context.buffers['decode']!, 0, initialDecodeState(context.capacity.batch, starts));
    if (stops.length > 0) memory.write(context.buffers['stop']!, 0, Uint32Array.from(stops));
    // what waits for its turn is dropped when the samples have ended or nobody wants them
    const over = new AbortController();
    const dropped = AbortSignal.any([signal, over.signal]);
    const flights: Promise<Record<string, HostArray>>[] = [];
    const launch = (plan: BoundPlan, options: Pick<RunOptions, 'inputs' | 'repeat'>): void => {
      const start = (): Promise<Record<string, HostArray>> => {
        // at the same turn, so that nobody else's adapter is merged in between
        this.adapter?.merged?.ensure(this.id, this.adapter.params);
        return plan.run({ values, read, ...options });
      };
      const flight = this.turns.submit(this.id, start, { signal: dropped }).then(({ done }) => done);
      // looked at when its time comes
      flight.catch(() => undefined);
      flights.push(flight);
    };
    const collector = new Collector(first, count, maxTokens, params.stopStrings, this.decode, onTokens);
    launch(prefill, { inputs });
    const layout = decodeStateLayout(context.capacity.batch);
    let submitted = 1;
    const fly = (): void => {
      const repeat = Math.min(pace.steps, maxTokens - submitted);
      launch(decode, { repeat });
      submitted += repeat;
    };
    try {
      for (let landed = flights.shift(); landed; landed = flights.shift()) {
        while (flights.length < pace.ahead - 1 && submitted < maxTokens) fly();
        if (collector.take(await landed, layout)) break;
        if (signal.aborted) throw gaveUp(signal);
        if (flights.length === 0 && submitted < maxTokens) fly();
      }
    } finally {
      over.abort(new AbortedError('all samples have ended'));
      // what is still in flight computes nothing anybody wants, but must land before the memory is lent again
      await Promise.allSettled(flights);
    }
    return collector.sequences();
  }
}
