/** A trace compiled for ONNX Runtime: a session, and what to feed it and do with what it returns. */
import { elements, type RunValues } from '../../../kernels/op';
import type { Trace } from '../../trace';
import type { BoundPlan, Buffers, DeviceBuffer, DeviceCounters, Plan } from '../device';
import { OnnxBoundPlan } from './bound-plan';
import type { Landing, LoweredTrace } from './lowering';
import { own, type OnnxBuffer, type OnnxMemory } from './memory';
import type { WorkQueue } from './queue';
import type { OnnxRuntime, OrtSession } from './runtime';
import type { TakenSession } from './sessions';

export interface OnnxContext {
  readonly runtime: OnnxRuntime;
  readonly memory: OnnxMemory;
  readonly queue: WorkQueue;
  readonly counters: DeviceCounters;
}

export class OnnxPlan implements Plan {
  readonly #bound = new Map<string, OnnxBoundPlan>();
  /** buffers of outputs that outlive a run, by output */
  readonly kept = new Map<string, OnnxBuffer>();

  constructor(
    readonly context: OnnxContext,
    readonly trace: Trace,
    readonly lowered: LoweredTrace,
    readonly taken: TakenSession,
    readonly capacity: RunValues,
    readonly constants: Buffers,
  ) {}

  get session(): OrtSession {
    return this.taken.session;
  }

  bind(key: string, states: Buffers): BoundPlan {
    let bound = this.#bound.get(key);
    if (!bound) {
      bound = new OnnxBoundPlan(this, this.#buffersOf({ ...this.constants, ...states }));
      this.#bound.set(key, bound);
    }
    return bound;
  }

  unbind(key: string): void {
    this.#bound.delete(key);
  }

  outputBuffer(name: string): DeviceBuffer {
    let buffer = this.kept.get(name);
    if (!buffer) {
      const { output, ref } = this.landing(name);
      if (output === undefined) throw new Error(`output ${name} of plan ${this.trace.name} is no temporary`);
      const bytes = 4 * elements(ref.shape, this.capacity);
      buffer = this.context.memory.storage(`${this.trace.name}.${name}`, bytes);
      this.kept.set(name, buffer);
    }
    return buffer;
  }

  /** Where an output is after a run. */
  landing(name: string): Landing {
    const landing = this.lowered.outputs.get(name);
    if (!landing) throw new Error(`plan ${this.trace.name} has no output ${name}`);
    return landing;
  }

  dispose(): void {
    for (const buffer of this.kept.values()) this.context.memory.free(buffer);
    this.kept.clear();
    this.#bound.clear();
    this.taken.release();
  }

  /** @throws Error if a dynamic size exceeds what the plan was compiled for */
  checkCapacity(values: RunValues): void {
    for (const [name, limit] of Object.entries(this.capacity)) {
      const value = values[name];
      if (value !== undefined && value > limit) {
        throw new Error(`plan ${this.trace.name}: ${name} = ${value} exceeds its capacity ${limit}`);
      }
    }
  }

  #buffersOf(states: Buffers): Map<string, OnnxBuffer> {
    const buffers = new Map<string, OnnxBuffer>();
    for (const name of this.trace.states.keys()) {
      const buffer = states[name];
      if (!buffer) throw new Error(`plan ${this.trace.name}: state ${name} is not bound`);
      buffers.set(name, own(buffer));
    }
    return buffers;
  }
}
