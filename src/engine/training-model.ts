/** One training run: a LoRA adapter on a base model, its gradients and its Adam moments. */
import { RequestFailedError, type AbortedError } from '../api/contract/errors';
import type { AdamParamsPayload, ForwardBackwardPayload, OptimStepPayload } from '../api/contract/types';
import type { AdapterMatrices, OptimizerState, SavedAdapter } from '../checkpoints/catalog-types';
import type { HostArray } from '../kernels/op';
import type { DecoderConfig } from '../models/config';
import { AdapterState, type Vector } from './adapter-state';
import type { BaseModel } from './base-model';
import type { Device, DeviceBuffer } from './devices/device';
import type { AdapterLayout } from './program/adapter';
import { optimizerTrace, trainTrace } from './program/steps';
import { TrainingPass, type PassRequest } from './training-pass';
import type { Submitted, Turns, UnitOptions } from './turns';

/** What of a run is saved. */
export interface SavedState {
  readonly matrices: AdapterMatrices;
  readonly optimizer: OptimizerState | null;
}

export class TrainingModel {
  readonly #state: AdapterState;
  /** optimizer steps applied, and when that is known of the last one */
  #step = 0;
  #stepped: Promise<unknown> = Promise.resolve();
  /** forward_backward calls since creation: the local clock */
  #clock = 0;
  readonly #gone = new AbortController();

  constructor(
    readonly id: string,
    readonly base: BaseModel,
    readonly layout: AdapterLayout,
    /** fixes the initial A matrices */
    seed: number,
    private readonly turns: Turns,
  ) {
    this.#state = new AdapterState(base.device.memory, id, layout, seed);
  }

  /**
   * Forward, and unless `forwardOnly` backward; gradients add up until `optimStep`. A loss that
   * is not finite rejects `done`, and leaves the gradients as they were before the request.
   */
  async forwardBackward(
    request: PassRequest,
    signal?: AbortSignal,
  ): Promise<Submitted<ForwardBackwardPayload>> {
    const { base, layout } = this;
    const pass = new TrainingPass({ config: base.config, adapter: layout }, request);
    await base.plans.prepare(pass.key, () => pass.trace(), pass.sizes);
    const runs: Promise<Record<string, HostArray>>[] = [];
    let hasSaved = false;
    for (let i = 0; i < pass.batches.length; i++) {
      const run = (): Promise<Record<string, HostArray>> => {
        if (i === 0 && !request.forwardOnly) hasSaved = this.#state.beginGradient();
        const plan = base.plans.ready(pass.key);
        return plan.bind(this.id, this.#state.buffers).run(pass.run(i, hasSaved));
      };
      // what has begun is not given up: part of a gradient is none
      const { done } = await this.turns.submit(this.id, run, i === 0 ? this.#until(signal) : {});
      runs.push(done);
    }
    const clock = ++this.#clock;
    return { done: Promise.all(runs).then((results) => pass.answer(results, clock)) };
  }

  /** Applies AdamW to the accumulated gradients and clears them. */
  async optimStep(adam: AdamParamsPayload, signal?: AbortSignal): Promise<Submitted<OptimStepPayload>> {
    const { base, layout } = this;
    const key = `optim/${layout.key}`;
    await base.plans.prepare(key, () => optimizerTrace(layout));
    // a step whose gradient was not finite does not count: the GPU has other work meanwhile
    await this.#stepped;
    const step = this.#step + 1;
    const run = (): Promise<Record<string, HostArray>> => {
      this.#state.clearsGradient();
      return base.plans
        .ready(key)
        .bind(this.id, this.#state.buffers)
        .run({
          values: {
            lr: adam.learningRate,
            beta1: adam.beta1,
            beta2: adam.beta2,
            eps: adam.eps,
            weight_decay: adam.weightDecay,
            clip: adam.gradClipNorm,
            one_minus_beta1: 1 - adam.beta1,
            one_minus_beta2: 1 - adam.beta2,
            bias1: 1 - adam.beta1 ** step,
            bias2: 1 - adam.beta2 ** step,
          },
          read: ['norm'],
        });
    };
    const options = { ...this.#until(signal), brief: true };
    const submitted = await this.turns.submit(this.id, run, options);
    const done = submitted.done.then(({ norm }): OptimStepPayload => {
      const value = norm![0]!;
      if (!Number.isFinite(value)) {
        throw new RequestFailedError(
          'NonFiniteInTensor: the gradient is not finite, so this optim_step changed nothing and the gradients were cleared; lower the learning rate',
          { category: 'user' },
        );
      }
      this.#step = step;
      return { metrics: { 'grad_norm:mean': value } };
    });
    this.#stepped = done.catch(() => undefined);
    return { done };
  }

  /** A copy of the adapter as it is now, in a buffer of its own. */
  snapshot(): DeviceBuffer {
    return this.#state.snapshot();
  }

  /** What a checkpoint holds, as it is when this resolves. */
  async save(optimizer: boolean): Promise<Submitted<SavedState>> {
    await this.#stepped;
    const step = this.#step;
    const { done } = await this.#state.read(optimizer ? ['params', 'm', 'v'] : ['params']);
    return {
      done: done.then(([matrices, m, v]) => ({
        matrices: matrices!,
        optimizer: optimizer ? { step, m: m!, v: v! } : null,
      })),
    };
  }

  /**
   * Goes on from a checkpoint: its adapter, and its moments and step count if they are there; no gradients.
   * @throws BadRequestError, before anything changes, if it does not fit
   */
  async restore(saved: SavedAdapter): Promise<void> {
    await this.#stepped;
    this.#state.restore(saved);
    this.#step = saved.optimizer?.step ?? 0;
  }

  /** One of the vectors, as matrices by canonical name (A (r, in), B (out, r)). */
  async read(vector: Vector): Promise<Map<string, Float32Array>> {
    const { done } = await this.#state.read([vector]);
    const [matrices] = await done;
    return new Map([...matrices!].map(([name, { data }]) => [name, data.slice()]));
  }

  /** Overwrites adapter matrices by canonical name. */
  write(matrices: ReadonlyMap<string, Float32Array<ArrayBuffer>>): void {
    this.#state.write(matrices);
  }

  /** Drops what waits for its turn at the GPU. @param reason its rejection */
  abandon(reason: AbortedError): void {
    this.#gone.abort(reason);
  }

  /** Frees its memory, when nothing runs any more. */
  dispose(): void {
    this.base.plans.unbind(this.id);
    this.#state.dispose();
  }

  /** Of a unit that may be dropped while it waits. */
  #until(signal: AbortSignal | undefined): UnitOptions {
    return { signal: signal ? AbortSignal.any([signal, this.#gone.signal]) : this.#gone.signal };
  }
}

/** Does what can be done of the plans of a training step on such a model before its weights are there. */
export async function prepareTraining(
  device: Device,
  config: DecoderConfig,
  adapter: AdapterLayout,
): Promise<void> {
  const traces = [trainTrace({ config, adapter }, 'cross_entropy'), optimizerTrace(adapter)];
  await Promise.all(traces.map((trace) => device.prepare(trace)));
}
