/** A sampler: a base model, or a snapshot of an adapter on it, and the loop that generates with it. */
import { RequestFailedError } from '../api/contract/errors';
import type { SampleRequest } from '../api/contract/backend';
import type { SampledSequencePayload, SamplePayload, SamplingParamsPayload } from '../api/contract/types';
import { seedWords } from '../kernels/philox';
import { decodeStateLayout, DONE, initialDecodeState } from '../kernels/sample/sample';
import type { BaseModel } from './base-model';
import { packSequences } from './batch';
import { decodeCapacity, type DecodeContext, type DecodeContextPool } from './decode-context';
import type { HostArray } from './devices/webgpu/plan';
import type { MergedWeights } from './merged-weights';
import type { AdapterLayout } from './program/adapter';
import { forwardTrace } from './program/steps';
import { StopMatcher, type Decode } from './tokenizer';

/** Most samples decoded side by side; a request for more runs in waves. */
const WAVE = 64;

/** Decode steps per submit, and submits in flight: a GPU hides its latency, a software adapter only wastes work. */
const PACE = { gpu: { steps: 8, ahead: 2 }, software: { steps: 4, ahead: 1 } } as const;

/** An adapter frozen at the time the sampler was made. */
export interface SamplerAdapter {
  readonly layout: AdapterLayout;
  readonly params: GPUBuffer;
  readonly merged: MergedWeights;
}

export class Sampler {
  constructor(
    readonly id: string,
    readonly base: BaseModel,
    readonly adapter: SamplerAdapter | null,
    private readonly pool: DecodeContextPool,
    private readonly decode: Decode,
  ) {}

  async sample({ prompt, numSamples, params, promptLogprobs }: SampleRequest): Promise<SamplePayload> {
    const seed = params.seed ?? Math.floor(Math.random() * Number.MAX_SAFE_INTEGER);
    const maxTokens = params.maxTokens ?? this.base.contextLength - prompt.length;
    const logprobs = promptLogprobs ? await this.promptLogprobs(prompt) : null;
    const sequences: SampledSequencePayload[] = [];
    for (let first = 0; first < numSamples; first += WAVE) {
      const count = Math.min(WAVE, numSamples - first);
      sequences.push(...(await this.#wave(prompt, { ...params, maxTokens, seed }, first, count)));
    }
    return { sequences, promptLogprobs: logprobs, topkPromptLogprobs: null, promptCacheHitTokens: 0 };
  }

  /** log p(prompt[i] | prompt[<i]) at temperature 1; entry 0 is null. */
  async promptLogprobs(prompt: readonly number[]): Promise<(number | null)[]> {
    if (prompt.length === 1) return [null];
    const { base, adapter } = this;
    const layout = adapter?.layout ?? null;
    const T = prompt.length - 1;
    const plan = await base.plans.get(
      `forward/${layout?.key ?? 'base'}`,
      () => forwardTrace({ config: base.config, adapter: layout }),
      { T },
    );
    const states = { ...base.buffers, ...(adapter && { 'lora.params': adapter.params }) };
    const { logprob } = await plan.bind(this.id, states).run({
      values: { T },
      inputs: { ...packSequences([prompt.slice(0, -1)]).inputs, targets: Uint32Array.from(prompt.slice(1)) },
      read: ['logprob'],
    });
    return [null, ...logprob!];
  }

  async dispose(): Promise<void> {
    this.adapter?.merged.forget(this.id);
    await this.base.plans.unbind(this.id);
    if (this.adapter) this.base.context.memory.free(this.adapter.params);
  }

  /** Samples `first` … `first + count − 1` of a request, side by side. */
  #wave(
    prompt: readonly number[],
    params: SamplingParamsPayload & { readonly maxTokens: number; readonly seed: number },
    first: number,
    count: number,
  ): Promise<SampledSequencePayload[]> {
    const stops = [...new Set([...params.stopTokens, ...this.base.config.eosTokenIds])];
    const capacity = decodeCapacity(count, prompt.length, params.maxTokens, stops.length);
    return this.pool.lend(
      this.adapter?.layout ?? null,
      capacity,
      this.adapter?.merged.buffers ?? {},
      (context) => this.#generate(context, prompt, params, stops, first, count),
    );
  }

  async #generate(
    context: DecodeContext,
    prompt: readonly number[],
    params: SamplingParamsPayload & { readonly maxTokens: number; readonly seed: number },
    stops: readonly number[],
    first: number,
    count: number,
  ): Promise<SampledSequencePayload[]> {
    const { memory, profile } = this.base.context;
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
    const prefill = await context.prefill(P);
    memory.write(context.buffers['decode']!, 0, initialDecodeState(context.capacity.batch, starts));
    if (stops.length > 0) memory.write(context.buffers['stop']!, 0, Uint32Array.from(stops));
    this.#merge();
    const collector = new Collector(count, maxTokens, params.stopStrings, this.decode);
    const flights = [prefill.run({ values, inputs, read })];
    const pace = PACE[profile.kind];
    const layout = decodeStateLayout(context.capacity.batch);
    let submitted = 1;
    const fly = (): void => {
      const repeat = Math.min(pace.steps, maxTokens - submitted);
      this.#merge();
      flights.push(context.decode.run({ values, read, repeat }));
      submitted += repeat;
    };
    try {
      for (let landed = flights.shift(); landed; landed = flights.shift()) {
        while (flights.length < pace.ahead - 1 && submitted < maxTokens) fly();
        if (collector.take(await landed, layout)) break;
        if (flights.length === 0 && submitted < maxTokens) fly();
      }
    } finally {
      // what is still in flight computes nothing anybody wants, but must land before the memory is lent again
      await Promise.allSettled(flights);
    }
    return collector.sequences();
  }

  #merge(): void {
    if (this.adapter) this.adapter.merged.ensure(this.id, this.adapter.params);
  }
}

/** Gathers tokens as they land, and decides where each sample ends. */
class Collector {
  readonly #samples: {
    tokens: number[];
    logprobs: number[];
    stopReason: 'stop' | 'length' | undefined;
    matcher: StopMatcher;
  }[];

  constructor(
    count: number,
    readonly maxTokens: number,
    stopStrings: readonly string[],
    decode: Decode,
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
    const { state, tokens, logprobs } = landed as Record<'state' | 'tokens' | 'logprobs', HostArray>;
    this.#samples.forEach((sample, b) => {
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
    });
    return this.#samples.every((s) => s.stopReason);
  }

  sequences(): SampledSequencePayload[] {
    return this.#samples.map(({ tokens, logprobs, stopReason }) => ({
      tokens,
      logprobs,
      stopReason: stopReason ?? 'length',
    }));
  }
}
