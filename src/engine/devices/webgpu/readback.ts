/** The only place that maps GPU memory. */
import type { DType, HostArray } from '../../../kernels/op';
import type { GpuMemory } from './memory';
import type { GpuContext } from './plan';

export interface ReadRequest {
  readonly name: string;
  readonly buffer: GPUBuffer;
  readonly byteOffset: number;
  readonly byteLength: number;
  readonly dtype: DType;
}

const VIEWS = { f32: Float32Array, u32: Uint32Array, i32: Int32Array } as const;

/** Mappable buffers kept for the next readback, so that a warm step creates none. */
export class StagingPool {
  readonly #idle: GPUBuffer[] = [];

  constructor(private readonly memory: GpuMemory) {}

  take(bytes: number): GPUBuffer {
    const at = this.#idle.findIndex((b) => b.size >= bytes);
    return at >= 0
      ? this.#idle.splice(at, 1)[0]!
      : this.memory.staging('readback', 2 ** Math.ceil(Math.log2(bytes)));
  }

  /** Takes back an unmapped buffer; keeps the few largest. */
  give(buffer: GPUBuffer): void {
    this.#idle.push(buffer);
    this.#idle.sort((a, b) => a.size - b.size);
    while (this.#idle.length > KEPT) this.memory.free(this.#idle.shift()!);
  }
}

/** Enough for the readbacks of a pipelined step. */
const KEPT = 4;

/** Appends the copies to `encoder`, submits it, and returns the bytes when the GPU is done. */
export async function readBack(
  { device, staging: pool, counters }: GpuContext,
  encoder: GPUCommandEncoder,
  requests: readonly ReadRequest[],
): Promise<Record<string, HostArray>> {
  let total = 0;
  const at = requests.map((r) => {
    const start = total;
    total += Math.ceil(r.byteLength / 8) * 8;
    return start;
  });
  const staging = total > 0 ? pool.take(total) : undefined;
  if (staging) {
    requests.forEach((r, i) => {
      if (r.byteLength > 0) encoder.copyBufferToBuffer(r.buffer, r.byteOffset, staging, at[i]!, r.byteLength);
    });
  }
  counters.submits++;
  device.queue.submit([encoder.finish()]);
  const out: Record<string, HostArray> = {};
  if (!staging) {
    for (const r of requests) out[r.name] = new VIEWS[r.dtype](0);
    return out;
  }
  await staging.mapAsync(GPUMapMode.READ, 0, total);
  const bytes = staging.getMappedRange(0, total);
  requests.forEach((r, i) => {
    out[r.name] = new VIEWS[r.dtype](bytes.slice(at[i], at[i]! + r.byteLength));
  });
  staging.unmap();
  pool.give(staging);
  return out;
}

/** See `DeviceMemory.read`: the copies are queued on the device when this resolves. */
export async function copyToHost(
  memory: GpuMemory,
  buffers: readonly GPUBuffer[],
  bytes: number,
): Promise<{ readonly done: Promise<ArrayBuffer[]> }> {
  const copies = await memory.allocate('a copy of an adapter', () =>
    buffers.map(() => memory.staging('copy', bytes)),
  );
  const { device, counters } = memory;
  const encoder = device.createCommandEncoder({ label: 'copy' });
  buffers.forEach((buffer, i) => encoder.copyBufferToBuffer(buffer, 0, copies[i]!, 0, bytes));
  counters.submits++;
  device.queue.submit([encoder.finish()]);
  const read = async (copy: GPUBuffer): Promise<ArrayBuffer> => {
    try {
      await copy.mapAsync(GPUMapMode.READ, 0, bytes);
      return copy.getMappedRange(0, bytes).slice(0);
    } finally {
      // rarely needed: not kept for the next
      memory.free(copy);
    }
  };
  return { done: Promise.all(copies.map(read)) };
}
