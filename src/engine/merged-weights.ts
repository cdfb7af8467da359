/**
 * Weights with one sampler's adapter merged in. Samplers whose adapters have the
 * same layout share the memory; whoever runs next has its own merged again.
 */
import type { BaseModel } from './base-model';
import type { Buffers, DeviceBuffer, Plan } from './devices/device';
import type { AdapterLayout } from './program/adapter';
import { mergeTrace } from './program/steps';
import { mergedName } from './program/weights';

export class MergedWeights {
  /** the sampler whose adapter is merged in now */
  #current: string | undefined;

  private constructor(
    readonly base: BaseModel,
    readonly plan: Plan,
    /** by state name */
    readonly buffers: Buffers,
  ) {}

  static async create(base: BaseModel, adapter: AdapterLayout): Promise<MergedWeights> {
    const trace = mergeTrace({ config: base.config, adapter });
    const plan = await base.device.compile(trace, { capacity: {}, constants: base.weights });
    const names = [...adapter.slots.keys()].map(mergedName);
    const buffers = Object.fromEntries(names.map((name) => [name, plan.outputBuffer(name)]));
    return new MergedWeights(base, plan, buffers);
  }

  /** Queues the merge of a sampler's adapter unless it is the one merged in already. */
  ensure(samplerId: string, params: DeviceBuffer): void {
    if (this.#current === samplerId) return;
    this.#current = samplerId;
    // nothing is read back: the run settles on submission
    void this.plan.bind(samplerId, { 'lora.params': params }).run({ values: {} });
  }

  /** Forgets a sampler that is going away. */
  forget(samplerId: string): void {
    if (this.#current === samplerId) this.#current = undefined;
    this.plan.unbind(samplerId);
  }

  dispose(): void {
    this.plan.dispose();
  }
}
