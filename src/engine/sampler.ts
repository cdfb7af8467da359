/** A sampler: a base model, or a snapshot of an adapter on it, and the loop that generates with it. */
import { AbortedError, DeviceLostError } from '../api/contract/errors';
import type { SampleCallOptions, SampleRequest } from '../api/contract/backend';
import type { SampledSequencePayload, SamplePayload, SamplingParamsPayload } from '../api/contract/types';
import type { HostArray } from '../kernels/op';
import { seedWords } from '../kernels/philox';
import { decodeStateLayout, initialDecodeState } from '../kernels/sample/sample';
import type { BaseModel } from './base-model';
import { packSequences } from './batch';
import { Collector } from './collector';
import { decodeCapacity, type DecodeContext, type DecodeContextPool } from './decode-context';
import type { BoundPlan, Device, DeviceBuffer, RunOptions } from './devices/device';
import type { MergedWeights } from './merged-weights';
import type { AdapterLayout } from './program/adapter';
import type { Epoch } from './recovery';
import { layoutKey, type SharedBase } from './shared-base';
import { promptTrace } from './program/steps';
import { promptScores, type PromptRows, type PromptScores } from './prompt-scores';
import { gaveUp } from './scheduler';
import type { Turns } from './turns';

/** Most samples decoded side by side; a request for more runs in waves. */
const WAVE = 64;

/** A request that says how chance falls: whoever runs it again gets the same. */
export interface SeededRequest extends SampleRequest {
  readonly params: SamplingParamsPayload & { readonly seed: number };
}

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

/** An adapter as it was when the sampler was made, on the host. */
export interface SamplerAdapter {
  readonly layout: AdapterLayout;
  /** flat; never written */
  readonly params: Float32Array<ArrayBuffer>;
}

/** What a sampler has on the device in use. */
interface Placed {
  readonly base: BaseModel;
  readonly pool: DecodeContextPool;
  readonly turns: Turns;
  readonly adapter: PlacedAdapter | null;
}

interface PlacedAdapter {
  readonly layout: AdapterLayout;
  readonly params: DeviceBuffer;
  /** null on a device that leaves adapters in parts */
  readonly merged: MergedWeights | null;
}

export class Sampler {
  readonly #gone = new AbortController();

  #placed: Placed | undefined;

  constructor(
    readonly id: string,
    private readonly shared: SharedBase,
    readonly adapter: SamplerAdapter | null,
  ) {}

  get base(): BaseModel {
    return this.shared.base;
  }

  /** Puts it on a device. @throws OutOfMemoryError */
  async place({ device, turns }: Epoch): Promise<void> {
    const { shared } = this;
    const { base, pool } = shared;
    const adapter = this.adapter && {
      layout: this.adapter.layout,
      merged: device.mergesAdapters ? await shared.merged(this.adapter.layout) : null,
      params: await this.#upload(device, this.adapter),
    };
    this.#placed = { base, pool, turns, adapter };
  }

  /** @throws AbortedError when `signal` fires or the sampler is abandoned; the flight under way lands first */
  async sample(
    { prompt, numSamples, params, promptLogprobs, topkPromptLogprobs }: SeededRequest,
    { signal: given, onTokens }: SampleCallOptions = {},
  ): Promise<SamplePayload> {
    const signal = given ? AbortSignal.any([given, this.#gone.signal]) : this.#gone.signal;
    const placed = this.#here();
    const maxTokens = params.maxTokens ?? this.base.contextLength - prompt.length;
    const scored = promptLogprobs || topkPromptLogprobs > 0;
    const scores = scored ? await this.#promptScores(placed, prompt, topkPromptLogprobs, signal) : null;
    const sequences: SampledSequencePayload[] = [];
    for (let first = 0; first < numSamples; first += WAVE) {
      const count = Math.min(WAVE, numSamples - first);
      const wave = { prompt, params: { ...params, maxTokens }, first, count, signal, onTokens };
      sequences.push(...(await this.#wave(placed, wave)));
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
  async #promptScores(
    { base, turns, adapter }: Placed,
    prompt: readonly number[],
    topk: number,
    signal: AbortSignal,
  ): Promise<PromptScores> {
    const T = prompt.length - 1;
    if (T === 0) return promptScores({ logprob: new Float32Array(0), lse: new Float32Array(0) }, topk);
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
    const { done } = await turns.submit(this.id, run, { signal });
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
    const { base, adapter } = this.#here();
    adapter?.merged?.forget(this.id);
    base.plans.unbind(this.id);
    if (adapter) base.device.memory.free(adapter.params);
  }

  /** Samples `first` … `first + count − 1` of a request, side by side. */
  #wave(placed: Placed, wave: Wave): Promise<SampledSequencePayload[]> {
    const { prompt, params, count } = wave;
    const ends = params.stopAtEos ? placed.base.config.eosTokenIds : [];
    const stops = [...new Set([...params.stopTokens, ...ends])];
    const capacity = decodeCapacity(count, prompt.length, params.maxTokens, stops.length);
    return placed.pool.lend(placed.adapter?.layout ?? null, capacity, this.id, (context) =>
      this.#generate(placed, context, wave, stops),
    );
  }

  async #generate(
    { base, adapter, turns }: Placed,
    context: DecodeContext,
    { prompt, params, first, count, signal, onTokens }: Wave,
    stops: readonly number[],
  ): Promise<SampledSequencePayload[]> {
    const { memory, pace } = base.device;
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
    const { prefill, decode } = await context.bind(this.id, adapter, P);
    memory.write(context.buffers['decode']!, 0, initialDecodeState(context.capacity.batch, starts));
    if (stops.length > 0) memory.write(context.buffers['stop']!, 0, Uint32Array.from(stops));
    // what waits for its turn is dropped when the samples have ended or nobody wants them
    const over = new AbortController();
    const dropped = AbortSignal.any([signal, over.signal]);
    const flights: Promise<Record<string, HostArray>>[] = [];
    const launch = (plan: BoundPlan, options: Pick<RunOptions, 'inputs' | 'repeat'>): void => {
      const start = (): Promise<Record<string, HostArray>> => {
        // at the same turn, so that nobody else's adapter is merged in between
        adapter?.merged?.ensure(this.id, adapter.params);
        return plan.run({ values, read, ...options });
      };
      const flight = turns.submit(this.id, start, { signal: dropped }).then(({ done }) => done);
      // looked at when its time comes
      flight.catch(() => undefined);
      flights.push(flight);
    };
    const collector = new Collector(
      first,
      count,
      maxTokens,
      params.stopStrings,
      this.shared.decode,
      onTokens,
    );
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

  #here(): Placed {
    if (!this.#placed) throw new DeviceLostError('the sampler is on no device yet');
    return this.#placed;
  }

  #upload({ memory }: Device, { params }: SamplerAdapter): Promise<DeviceBuffer> {
    return memory.allocate('the copy of an adapter', () => memory.upload(`${this.id}.params`, params));
  }
}
