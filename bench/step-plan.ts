/** Binds the engine's own traces to buffers of random numbers, to time them without an engine around. */
import { Plan, type BoundPlan, type GpuContext } from '../src/engine/devices/webgpu/plan';
import { stackWeights } from '../src/engine/program/weights';
import type { Trace } from '../src/engine/trace';
import { elements, type HostArray, type RunValues } from '../src/kernels/op';
import type { DecoderConfig } from '../src/models/config';
import type { HostTensor } from '../src/models/safetensors';
import { seeded, uniformArray } from './harness';

/** Buffers for plans of one model, shared by name. */
export class StateBuffers {
  readonly #buffers: Record<string, GPUBuffer> = {};

  constructor(
    readonly gpu: GpuContext,
    config: DecoderConfig,
    tensors: ReadonlyMap<string, HostTensor>,
  ) {
    for (const { name, shape, parts } of stackWeights(config, tensors)) {
      const data = new Float32Array(shape.reduce((a, b) => a * b, 1));
      let at = 0;
      for (const part of parts) {
        data.set(part, at);
        at += part.length;
      }
      this.#buffers[name] = gpu.memory.upload(name, data);
    }
  }

  /** Every state the trace names; those that are no weights start with small random numbers. */
  of(trace: Trace, capacity: RunValues): Record<string, GPUBuffer> {
    for (const [name, t] of trace.states) {
      const length = elements(t.shape, capacity);
      this.#buffers[name] ??=
        t.dtype === 'f32'
          ? this.gpu.memory.upload(name, uniformArray(length, 0.05, seeded(length)).map(Math.abs))
          : this.gpu.memory.storage(name, 4 * length);
    }
    return this.#buffers;
  }
}

/** Compiles and binds a trace. */
export async function bindTrace(states: StateBuffers, trace: Trace, capacity: RunValues): Promise<BoundPlan> {
  const plan = await Plan.compile(states.gpu, trace, capacity);
  return plan.bind('bench', states.of(trace, capacity));
}

/** Inputs of a packed batch of `sequences` × `length` random tokens; f32 inputs are ones. */
export function packedInputs(
  trace: Trace,
  vocabSize: number,
  sequences: number,
  length: number,
): Record<string, HostArray> {
  const rows = sequences * length;
  const next = seeded(5);
  const id = (): number => Math.floor(next() * vocabSize);
  const known: Record<string, HostArray> = {
    tokens: Uint32Array.from({ length: rows }, id),
    targets: Uint32Array.from({ length: rows }, id),
    positions: Uint32Array.from({ length: rows }, (_, t) => t % length),
    segments: Uint32Array.from(
      { length: 2 * rows },
      (_, i) => (Math.floor(i / 2 / length) + (i % 2)) * length,
    ),
  };
  const inputs: Record<string, HostArray> = {};
  for (const [name, t] of trace.inputs) {
    inputs[name] =
      known[name] ?? (t.dtype === 'f32' ? new Float32Array(rows).fill(1) : new Uint32Array(rows));
  }
  return inputs;
}
