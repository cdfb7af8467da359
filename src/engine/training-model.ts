/** One training run: a LoRA adapter on a base model, its gradients and its Adam moments. */
import { RequestFailedError } from '../api/contract/errors';
import type {
  AdamParamsPayload,
  DatumPayload,
  ForwardBackwardPayload,
  OptimStepPayload,
  TensorPayload,
} from '../api/contract/types';
import type { LossName } from '../kernels/loss/index';
import { philoxUniform } from '../kernels/philox';
import type { DecoderConfig } from '../models/config';
import type { BaseModel } from './base-model';
import { microBatchTokens, packBatches } from './batch';
import { Plan, type GpuContext } from './devices/webgpu/plan';
import { copyBuffer, readBuffer } from './devices/webgpu/readback';
import type { AdapterLayout } from './program/adapter';
import { forwardTrace, optimizerTrace, trainTrace } from './program/steps';

/** Work that has been submitted; `done` settles when its results are on the host. */
export interface Submitted<T> {
  readonly done: Promise<T>;
}

type Vector = 'params' | 'grads' | 'm' | 'v';

export class TrainingModel {
  readonly #states: Record<`lora.${Vector}`, GPUBuffer>;
  /** optimizer steps applied */
  #step = 0;
  /** forward_backward calls since creation: the local clock */
  #clock = 0;

  constructor(
    readonly id: string,
    readonly base: BaseModel,
    readonly layout: AdapterLayout,
    /** fixes the initial A matrices */
    seed: number,
  ) {
    const { memory } = base.context;
    const bytes = 4 * layout.length;
    this.#states = {
      'lora.params': memory.upload(`${id}.params`, initialAdapter(layout, seed)),
      'lora.grads': memory.storage(`${id}.grads`, bytes),
      'lora.m': memory.storage(`${id}.m`, bytes),
      'lora.v': memory.storage(`${id}.v`, bytes),
    };
  }

  /** Forward, and unless `forwardOnly` backward; gradients add up until `optimStep`. */
  async forwardBackward(
    data: readonly DatumPayload[],
    lossFn: LossName,
    forwardOnly: boolean,
  ): Promise<Submitted<ForwardBackwardPayload>> {
    const { base, layout } = this;
    const model = { config: base.config, adapter: layout };
    const key = `${forwardOnly ? 'forward' : lossFn}/${layout.key}`;
    const trace = () => (forwardOnly ? forwardTrace(model) : trainTrace(model, lossFn));
    const batches = packBatches(data, microBatchTokens(base.config));
    const longest = Math.max(...batches.map((b) => b.tokens));
    const plan = await base.plans.get(key, trace, { T: longest });
    const bound = plan.bind(this.id, { ...base.buffers, ...this.#states });
    const runs = batches.map((batch) => {
      const wanted = plan.trace.inputs;
      const inputs = Object.fromEntries(Object.entries(batch.inputs).filter(([name]) => wanted.has(name)));
      return bound.run({
        values: { T: batch.tokens },
        inputs,
        read: forwardOnly ? ['logprob'] : ['logprob', 'loss'],
      });
    });
    const clock = ++this.#clock;
    const done = Promise.all(runs).then((results): ForwardBackwardPayload => {
      const outputs: Record<string, TensorPayload>[] = new Array<Record<string, TensorPayload>>(data.length);
      let loss = 0;
      results.forEach(({ logprob, loss: terms }, i) => {
        const batch = batches[i]!;
        for (const { index, start, length } of batch.datums) {
          const values = (logprob as Float32Array<ArrayBuffer>).slice(start, start + length);
          outputs[index] = { logprobs: { dtype: 'float32', shape: [length], data: values } };
        }
        if (terms) for (const term of terms) loss += term;
        else loss += forwardLoss(logprob as Float32Array, batch.inputs['weights'] as Float32Array);
      });
      return {
        lossFnOutputType: lossFn,
        lossFnOutputs: outputs,
        metrics: { 'loss:sum': loss, 'clock_cycle:unique': clock },
      };
    });
    return { done };
  }

  /** Applies AdamW to the accumulated gradients and clears them. */
  async optimStep(adam: AdamParamsPayload): Promise<Submitted<OptimStepPayload>> {
    const { base, layout } = this;
    const plan = await base.plans.get(`optim/${layout.key}`, () => optimizerTrace(layout));
    const step = ++this.#step;
    const run = plan.bind(this.id, this.#states).run({
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
    const done = run.then(({ norm }): OptimStepPayload => {
      const value = norm![0]!;
      if (!Number.isFinite(value)) {
        this.#step--;
        throw new RequestFailedError(
          'NonFiniteInTensor: the gradient is not finite, so this optim_step changed nothing and the gradients were cleared; lower the learning rate',
          { category: 'user' },
        );
      }
      return { metrics: { 'grad_norm:mean': value } };
    });
    return { done };
  }

  /** A copy of the adapter as it is now, in a buffer of its own. */
  snapshot(): GPUBuffer {
    return copyBuffer(
      this.base.context,
      `${this.id}.snapshot`,
      this.#states['lora.params'],
      4 * this.layout.length,
    );
  }

  /** One of the vectors, as matrices by canonical name (A (r, in), B (out, r)). */
  async read(vector: Vector): Promise<Map<string, Float32Array>> {
    const bytes = await readBuffer(this.base.context, this.#states[`lora.${vector}`], 4 * this.layout.length);
    const flat = new Float32Array(bytes);
    return new Map(
      this.layout.parameters.map(({ name, shape, offset }) => [
        name,
        flat.slice(offset, offset + shape[0] * shape[1]),
      ]),
    );
  }

  /** Overwrites adapter matrices by canonical name. */
  write(matrices: ReadonlyMap<string, Float32Array<ArrayBuffer>>): void {
    for (const { name, shape, offset } of this.layout.parameters) {
      const data = matrices.get(name);
      if (!data) continue;
      if (data.length !== shape[0] * shape[1])
        throw new Error(`${name} has ${data.length} values, not ${shape.join('×')}`);
      this.base.context.memory.write(this.#states['lora.params'], 4 * offset, data);
    }
  }

  async dispose(): Promise<void> {
    await this.base.plans.unbind(this.id);
    for (const buffer of Object.values(this.#states)) this.base.context.memory.free(buffer);
  }
}

/** Σ −w·lp, for the pass that makes no gradient. */
function forwardLoss(logprob: Float32Array, weights: Float32Array): number {
  let loss = 0;
  for (let t = 0; t < logprob.length; t++) loss -= weights[t]! === 0 ? 0 : weights[t]! * logprob[t]!;
  return loss;
}

/** Compiles the shaders of a training step on such a model, which later plans then find ready. */
export async function prepareTraining(
  context: GpuContext,
  config: DecoderConfig,
  adapter: AdapterLayout,
): Promise<void> {
  const traces = [trainTrace({ config, adapter }, 'cross_entropy'), optimizerTrace(adapter)];
  await Promise.all(traces.map((trace) => Plan.prepare(context, trace)));
}

/** B zero; A uniform in ±1/√in, each matrix from its own stream of `seed`. */
function initialAdapter(layout: AdapterLayout, seed: number): Float32Array<ArrayBuffer> {
  const flat = new Float32Array(layout.length);
  layout.parameters.forEach(({ role, shape, offset }, stream) => {
    if (role === 'B') return;
    const bound = 1 / Math.sqrt(shape[1]);
    flat.set(philoxUniform(seed, stream, shape[0] * shape[1], -bound, bound), offset);
  });
  return flat;
}
