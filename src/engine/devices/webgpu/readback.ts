/** The only place that maps GPU memory. */
import type { DType } from '../../../kernels/op';
import type { GpuContext, HostArray } from './plan';

export interface ReadRequest {
  readonly name: string;
  readonly buffer: GPUBuffer;
  readonly byteOffset: number;
  readonly byteLength: number;
  readonly dtype: DType;
}

const VIEWS = { f32: Float32Array, u32: Uint32Array, i32: Int32Array } as const;

/** Appends the copies to `encoder`, submits it, and returns the bytes when the GPU is done. */
export async function readBack(
  { device, memory, counters }: GpuContext,
  encoder: GPUCommandEncoder,
  requests: readonly ReadRequest[],
): Promise<Record<string, HostArray>> {
  let total = 0;
  const at = requests.map((r) => {
    const start = total;
    total += Math.ceil(r.byteLength / 8) * 8;
    return start;
  });
  const staging = total > 0 ? memory.staging('readback', total) : undefined;
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
  try {
    await staging.mapAsync(GPUMapMode.READ);
    const bytes = staging.getMappedRange();
    requests.forEach((r, i) => {
      out[r.name] = new VIEWS[r.dtype](bytes.slice(at[i]!, at[i]! + r.byteLength));
    });
    staging.unmap();
    return out;
  } finally {
    memory.free(staging);
  }
}

/** A new buffer with the first `bytes` of another. */
export function copyBuffer({ device, memory, counters }: GpuContext, label: string, from: GPUBuffer, bytes: number): GPUBuffer {
  const copy = memory.storage(label, bytes);
  const encoder = device.createCommandEncoder({ label });
  encoder.copyBufferToBuffer(from, 0, copy, 0, bytes);
  counters.submits++;
  device.queue.submit([encoder.finish()]);
  return copy;
}

/** The first `bytes` of a buffer. */
export async function readBuffer(context: GpuContext, buffer: GPUBuffer, bytes: number): Promise<ArrayBuffer> {
  const encoder = context.device.createCommandEncoder({ label: 'read' });
  const { whole } = await readBack(context, encoder, [
    { name: 'whole', buffer, byteOffset: 0, byteLength: bytes, dtype: 'f32' },
  ]);
  return whole!.buffer;
}
