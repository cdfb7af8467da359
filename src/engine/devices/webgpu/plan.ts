/**
 * A plan: a trace compiled for one GPU. Pipelines, temporaries and launch list
 * are made once; a run uploads inputs, replays the launches in one compute pass
 * and one submit, and reads back only what was asked.
 */
import { packParams } from '../../../kernels/kernel';
import {
  elements,
  type AdapterProfile,
  type Dispatch,
  type HostArray,
  type RunValues,
  type TensorRef,
} from '../../../kernels/op';
import type { Trace } from '../../trace';
import type * as device from '../device';
import type { GpuCounters } from './counters';
import { planSlots } from './liveness';
import type { GpuMemory } from './memory';
import type { PipelineCache } from './pipelines';
import { readBack, type ReadRequest, type StagingPool } from './readback';

/** Slots of the uniform arena, in bytes: the alignment every adapter accepts. */
const UNIFORM_SLOT = 256;

export interface GpuContext {
  readonly device: GPUDevice;
  readonly profile: AdapterProfile;
  readonly memory: GpuMemory;
  readonly pipelines: PipelineCache;
  readonly staging: StagingPool;
  readonly counters: GpuCounters;
}

/** Persistent buffers by state name. */
type GpuBuffers = Readonly<Record<string, GPUBuffer>>;

export class Plan implements device.Plan {
  readonly #slots: GPUBuffer[];
  readonly #inputs = new Map<string, GPUBuffer>();
  readonly #bound = new Map<string, BoundPlan>();
  readonly #bytesOf: (storage: number) => number;
  readonly uniforms: GPUBuffer;

  private constructor(
    readonly context: GpuContext,
    readonly trace: Trace,
    /** largest values of the dynamic sizes this plan has memory for */
    readonly capacity: RunValues,
    readonly dispatches: readonly Dispatch[],
    readonly pipelines: readonly GPUComputePipeline[],
    private readonly constants: GpuBuffers,
  ) {
    const { memory } = context;
    const bytes = new Map<number, number>();
    for (const t of trace.tensors) {
      const end = 4 * (t.offset + elements(t.shape, capacity));
      bytes.set(t.storage, Math.max(bytes.get(t.storage) ?? 0, end));
    }
    this.#bytesOf = (storage) => bytes.get(storage)!;
    const { slotOf, slotBytes } = planSlots(trace, this.#bytesOf);
    this.#slots = slotBytes.map((size, i) => memory.storage(`${trace.name}.temp${i}`, size));
    for (const [name, t] of trace.inputs) {
      this.#inputs.set(name, memory.storage(`${trace.name}.${name}`, this.#bytesOf(t.storage)));
    }
    this.uniforms = memory.uniform(`${trace.name}.params`, UNIFORM_SLOT * Math.max(1, dispatches.length));
    this.slotOf = slotOf;
  }

  private readonly slotOf: ReadonlyMap<number, number>;

  /** Compiles a trace; all its pipelines compile in parallel. */
  static async compile(
    context: GpuContext,
    trace: Trace,
    capacity: RunValues,
    constants: GpuBuffers = {},
  ): Promise<Plan> {
    const { dispatches, pipelines } = await lower(context, trace);
    return context.memory.allocate(
      `the plan '${trace.name}'`,
      () => new Plan(context, trace, capacity, dispatches, pipelines, constants),
    );
  }

  bind(key: string, states: GpuBuffers): BoundPlan {
    let bound = this.#bound.get(key);
    if (!bound) {
      bound = new BoundPlan(this, { ...this.constants, ...states });
      this.#bound.set(key, bound);
    }
    return bound;
  }

  unbind(key: string): void {
    this.#bound.delete(key);
  }

  buffer(t: TensorRef, states: GpuBuffers): GPUBuffer {
    switch (this.trace.placement.get(t.storage)) {
      case 'temp':
        return this.#slots[this.slotOf.get(t.storage)!]!;
      case 'input':
        return this.inputBuffer(this.#nameOf(this.trace.inputs, t.storage));
      default: {
        const name = this.#nameOf(this.trace.states, t.storage);
        const buffer = states[name];
        if (!buffer) throw new Error(`plan ${this.trace.name}: state ${name} is not bound`);
        return buffer;
      }
    }
  }

  outputBuffer(name: string): GPUBuffer {
    const t = this.trace.outputs.get(name);
    if (!t) throw new Error(`plan ${this.trace.name} has no output ${name}`);
    return this.buffer(t, {});
  }

  inputBuffer(name: string): GPUBuffer {
    const buffer = this.#inputs.get(name);
    if (!buffer) throw new Error(`plan ${this.trace.name} has no input ${name}`);
    return buffer;
  }

  dispose(): void {
    for (const b of [...this.#slots, ...this.#inputs.values(), this.uniforms]) this.context.memory.free(b);
    this.#bound.clear();
  }

  #nameOf(table: ReadonlyMap<string, TensorRef>, storage: number): string {
    for (const [name, t] of table) if (t.storage === storage) return name;
    throw new Error(`plan ${this.trace.name}: storage ${storage} has no name`);
  }
}

/** The launches of a trace on this adapter, and their pipelines. */
export async function lower(
  { pipelines, profile }: GpuContext,
  trace: Trace,
): Promise<{ dispatches: Dispatch[]; pipelines: GPUComputePipeline[] }> {
  const dispatches = trace.nodes.flatMap(({ op, node }) => op.webgpu(node, profile));
  return {
    dispatches,
    pipelines: await Promise.all(dispatches.map((d) => pipelines.get(d.kernel, d.constants))),
  };
}

/** A plan with its bind groups. */
export class BoundPlan implements device.BoundPlan {
  readonly #groups: readonly GPUBindGroup[];

  constructor(
    readonly plan: Plan,
    readonly states: GpuBuffers,
  ) {
    const { device, counters } = plan.context;
    this.#groups = plan.dispatches.map((d, i) => {
      const entries: GPUBindGroupEntry[] = Object.keys(d.kernel.bindings).map((name, binding) => {
        const t = d.bind[name];
        if (!t) throw new Error(`kernel ${d.kernel.name}: binding ${name} got no tensor`);
        const size = Math.max(4, 4 * elements(t.shape, plan.capacity));
        return {
          binding,
          // vec4 bindings need a multiple of 16 bytes; buffers are padded to 256
          resource: { buffer: plan.buffer(t, states), offset: 4 * t.offset, size: Math.ceil(size / 16) * 16 },
        };
      });
      if (Object.keys(d.kernel.params).length > 0) {
        entries.push({
          binding: entries.length,
          resource: { buffer: plan.uniforms, offset: UNIFORM_SLOT * i, size: UNIFORM_SLOT },
        });
      }
      counters.bindGroupCreations++;
      return device.createBindGroup({
        label: d.kernel.name,
        layout: plan.pipelines[i]!.getBindGroupLayout(0),
        entries,
      });
    });
  }

  /** With nothing to read the promise settles at once. */
  run({ values, inputs = {}, read = [], repeat = 1 }: device.RunOptions): Promise<Record<string, HostArray>> {
    const { plan } = this;
    const { device, memory, counters } = plan.context;
    for (const [name, limit] of Object.entries(plan.capacity)) {
      const value = values[name];
      if (value !== undefined && value > limit) {
        throw new Error(`plan ${plan.trace.name}: ${name} = ${value} exceeds its capacity ${limit}`);
      }
    }
    for (const [name, data] of Object.entries(inputs)) memory.write(plan.inputBuffer(name), 0, data);

    const block = new ArrayBuffer(UNIFORM_SLOT * Math.max(1, plan.dispatches.length));
    const view = new DataView(block);
    plan.dispatches.forEach((d, i) => {
      if (d.params) packParams(d.kernel, d.params(values), view, UNIFORM_SLOT * i);
    });
    device.queue.writeBuffer(plan.uniforms, 0, block);

    const encoder = device.createCommandEncoder({ label: plan.trace.name });
    const pass = encoder.beginComputePass({ label: plan.trace.name });
    for (let r = 0; r < repeat; r++) {
      plan.dispatches.forEach((d, i) => {
        const [x, y, z] = d.grid(values);
        if (x * y * z === 0) return;
        pass.setPipeline(plan.pipelines[i]!);
        pass.setBindGroup(0, this.#groups[i]);
        pass.dispatchWorkgroups(x, y, z);
        counters.dispatches++;
      });
    }
    pass.end();

    const requests: ReadRequest[] = read.map((name) => {
      const t = plan.trace.outputs.get(name);
      if (!t) throw new Error(`plan ${plan.trace.name} has no output ${name}`);
      return {
        name,
        buffer: plan.buffer(t, this.states),
        byteOffset: 4 * t.offset,
        byteLength: 4 * elements(t.shape, values),
        dtype: t.dtype,
      };
    });
    return readBack(plan.context, encoder, requests);
  }
}
