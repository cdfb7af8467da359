/** One training run: a LoRA adapter on a base model, its gradients and its Adam moments. */
import { DeviceLostError, RequestFailedError, type AbortedError } from '../api/contract/errors';
import type { AdamParamsPayload, ForwardBackwardPayload, OptimStepPayload } from '../api/contract/types';
import type { AdapterMatrices, OptimizerState, SavedAdapter } from '../checkpoints/catalog-types';
import type { HostArray } from '../kernels/op';
import type { DecoderConfig } from '../models/config';
import {
  AdapterState,
  freshVectors,
  matricesOf,
  savedVectors,
  withMatrices,
  type HostVectors,
} from './adapter-state';
import type { BaseModel } from './base-model';
import type { Device } from './devices/device';
import { Journal, type Job } from './journal';
import type { AdapterLayout } from './program/adapter';
import { optimizerTrace, trainTrace } from './program/steps';
import type { DeviceHost, Epoch } from './recovery';
import type { SharedBase } from './shared-base';
import { TrainingPass, type PassRequest } from './training-pass';
import type { Submitted, Turns, UnitOptions } from './turns';

/** What of a run is saved. */
export interface SavedState {
  readonly matrices: AdapterMatrices;
  readonly optimizer: OptimizerState | null;
}

/** What the host has of a run. */
interface Kept extends HostVectors {
  /** optimizer steps applied */
  readonly step: number;
  /** the sum of gradients that need not be computed again; null: none */
  readonly grads: Float32Array<ArrayBuffer> | null;
}

/** Requests without an optimizer step after which their gradients are kept instead of them. */
const MOST_REQUESTS = 32;

type Results = Record<string, HostArray>;

/** What a run has on the device in use. */
interface Placed {
  readonly base: BaseModel;
  readonly state: AdapterState;
  readonly turns: Turns;
}

export class TrainingModel {
  /** as after the last completed step */
  #kept: Kept;
  #placed: Placed | undefined;
  readonly #journal: Journal;
  /** when the last optimizer step is known to have been applied or not */
  #stepped: Promise<unknown> = Promise.resolve();
  /** forward_backward calls since creation: the local clock */
  #clock = 0;
  readonly #gone = new AbortController();

  constructor(
    readonly id: string,
    private readonly shared: SharedBase,
    readonly layout: AdapterLayout,
    /** fixes the initial A matrices */
    private readonly seed: number,
    host: DeviceHost,
  ) {
    this.#kept = { ...freshVectors(layout, seed), step: 0, grads: null };
    this.#journal = new Journal(host);
  }

  get base(): BaseModel {
    return this.shared.base;
  }

  /** Puts what is kept on a device. @throws OutOfMemoryError */
  async place({ device, turns }: Epoch): Promise<void> {
    const kept = this.#kept;
    const state = await AdapterState.upload(device.memory, this.layout, this.id, kept, kept.grads);
    this.#placed = { base: this.base, state, turns };
  }

  /** Goes on where it was, on another device. @returns how many requests were done again */
  async replace(epoch: Epoch): Promise<number> {
    await this.place(epoch);
    return this.#journal.replay(epoch);
  }

  /** Runs a request of this model after those before it. @param onSubmitted called when the next may be submitted */
  async run<V, T>(job: Job<V, T>, onSubmitted: () => void): Promise<T> {
    if (job.gradients === 'adds' && this.#journal.kept >= MOST_REQUESTS) {
      // if that fails, the requests stay
      await this.#journal.run(this.#keepGradients(), () => undefined).catch(() => undefined);
    }
    const result = this.#journal.run(job, onSubmitted);
    if (job.gradients === 'settles') {
      this.#stepped = result.then(
        () => undefined,
        () => undefined,
      );
    }
    return result;
  }

  /** Has the host keep the gradients so far, in place of the requests that made them. */
  #keepGradients(): Job<Float32Array<ArrayBuffer>, void> {
    const finish = (grads: Float32Array<ArrayBuffer>): void => {
      this.#kept = { ...this.#kept, grads };
    };
    return { submit: async () => this.#here().state.readGradients(), finish, gradients: 'settles' };
  }

  /**
   * Forward, and unless `forwardOnly` backward; gradients add up until `optimStep`. A loss that
   * is not finite rejects, and leaves the gradients as they were before the request.
   */
  forwardBackward(request: PassRequest, signal?: AbortSignal): Job<Results[], ForwardBackwardPayload> {
    const { id, layout } = this;
    const { forwardOnly } = request;
    const pass = new TrainingPass({ config: this.base.config, adapter: layout }, request);
    const several = pass.batches.length > 1 && !forwardOnly;
    const submit = async (): Promise<Submitted<Results[]>> => {
      const { base, state, turns } = this.#here();
      await base.plans.prepare(pass.key, () => pass.trace(), pass.sizes);
      const runs: Promise<Results>[] = [];
      let hasSaved = false;
      const undo = async (error: unknown): Promise<never> => {
        await Promise.allSettled(runs);
        if (several) state.undoGradient(hasSaved);
        throw error;
      };
      for (let i = 0; i < pass.batches.length; i++) {
        const run = (): Promise<Results> => {
          if (i === 0 && !forwardOnly) hasSaved = state.beginGradient();
          return base.plans.ready(pass.key).bind(id, state.buffers).run(pass.run(i, hasSaved));
        };
        // what has begun is not given up: part of a gradient is none
        const { done } = await turns.submit(id, run, i === 0 ? this.#until(signal) : {});
        runs.push(done);
      }
      return { done: Promise.all(runs).catch(undo) };
    };
    const finish = (results: Results[]): ForwardBackwardPayload => pass.answer(results, ++this.#clock);
    // a batch that cannot run leaves those before it to be undone, before anything else adds to the gradients
    return { submit, finish, gradients: forwardOnly ? 'leaves' : 'adds', alone: several };
  }

  /** Applies AdamW to the accumulated gradients and clears them. */
  optimStep(adam: AdamParamsPayload, signal?: AbortSignal): Job<Results, OptimStepPayload> {
    const { id, layout } = this;
    const key = `optim/${layout.key}`;
    const before = this.#stepped;
    const submit = async (): Promise<Submitted<Results>> => {
      const { base, state, turns } = this.#here();
      await base.plans.prepare(key, () => optimizerTrace(layout));
      // a step whose gradient was not finite does not count: the device has other work meanwhile
      await before;
      const step = this.#kept.step + 1;
      const run = (): Promise<Results> => {
        state.clearsGradient();
        return base.plans
          .ready(key)
          .bind(id, state.buffers)
          .run({
            values: {
              lr: adam.learningRate,
              beta1: adam.beta1,
              beta2: adam.beta2,
              eps: adam.eps,
              weight_decay: adam.weightDecay,
              clip: adam.gradClipNorm,
              bias1: 1 - adam.beta1 ** step,
              bias2: 1 - adam.beta2 ** step,
            },
            read: ['norm', 'params', 'm', 'v'],
          });
      };
      return turns.submit(id, run, { ...this.#until(signal), brief: true });
    };
    const finish = ({ norm, params, m, v }: Results): OptimStepPayload => {
      const value = norm![0]!;
      if (!Number.isFinite(value)) {
        this.#kept = { ...this.#kept, grads: null };
        throw new RequestFailedError(
          'NonFiniteInTensor: the gradient is not finite, so this optim_step changed nothing and the gradients were cleared; lower the learning rate',
          { category: 'user' },
        );
      }
      const vectors = { params, m, v } as unknown as HostVectors;
      this.#kept = { ...vectors, step: this.#kept.step + 1, grads: null };
      return { metrics: { 'grad_norm:mean': value } };
    };
    return { submit, finish, gradients: 'settles' };
  }

  /** The adapter at this request's place in the order, as a flat vector that stays as it is. */
  snapshot(): Job<HostVectors['params'], HostVectors['params']> {
    return this.#look(
      ({ params }) => params,
      (params) => params,
    );
  }

  /** What a checkpoint holds. @param keep gets it at this request's place in the order */
  save<T>(optimizer: boolean, keep: (state: SavedState) => Promise<T>): Job<SavedState, T> {
    const { layout } = this;
    return this.#look(
      ({ params, m, v, step }) => ({
        matrices: matricesOf(layout, params),
        optimizer: optimizer ? { step, m: matricesOf(layout, m), v: matricesOf(layout, v) } : null,
      }),
      keep,
    );
  }

  /** Asks nothing of the device: the host has what a completed step left. */
  #look<V, T>(see: (kept: Kept) => V, finish: Job<V, T>['finish']): Job<V, T> {
    const before = this.#stepped;
    const submit = async (): Promise<Submitted<V>> => {
      await before;
      return { done: Promise.resolve(see(this.#kept)) };
    };
    return { submit, finish, gradients: 'leaves' };
  }

  /**
   * Goes on from a checkpoint: its adapter, and its moments and step count if they are there; no gradients.
   * @throws BadRequestError, before anything changes, if it does not fit
   */
  restore(load: () => Promise<SavedAdapter>): Job<SavedAdapter, void> {
    const submit = async (): Promise<Submitted<SavedAdapter>> => {
      const before = this.#journal.landed;
      const saved = await load();
      await before;
      return { done: Promise.resolve(saved) };
    };
    const finish = (saved: SavedAdapter): void => {
      const vectors = savedVectors(this.layout, this.seed, saved);
      this.#kept = { ...vectors, step: saved.optimizer?.step ?? 0, grads: null };
      this.#here().state.write(vectors);
    };
    return { submit, finish, gradients: 'settles', alone: true };
  }

  /** The adapter, or the gradients, as matrices by canonical name (A (r, in), B (out, r)). */
  async read(vector: 'params' | 'grads'): Promise<Map<string, Float32Array>> {
    await this.#stepped;
    const flat =
      vector === 'params' ? this.#kept.params : await (await this.#here().state.readGradients()).done;
    return new Map([...matricesOf(this.layout, flat)].map(([name, { data }]) => [name, data.slice()]));
  }

  /** Overwrites adapter matrices by canonical name. */
  write(matrices: ReadonlyMap<string, Float32Array>): void {
    this.#kept = { ...this.#kept, params: withMatrices(this.layout, this.#kept.params, matrices) };
    this.#here().state.writeParams(this.#kept.params);
  }

  /** Drops what waits for its turn at the device. @param reason its rejection */
  abandon(reason: AbortedError): void {
    this.#gone.abort(reason);
  }

  /** Rejects what has no answer yet: it will have none. */
  fail(reason: unknown): void {
    this.#journal.fail(reason);
  }

  /** Frees its memory, when nothing runs any more. */
  dispose(): void {
    this.#placed?.base.plans.unbind(this.id);
    this.#placed?.state.dispose();
  }

  #here(): Placed {
    if (!this.#placed) throw new DeviceLostError('the model is on no device yet');
    return this.#placed;
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
