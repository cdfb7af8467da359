/** Creates and frees GPU buffers, and counts them. A `DeviceBuffer` of this device is a `GPUBuffer`. */
import { OutOfMemoryError } from '../../../api/contract/errors';
import type { DeviceMemory } from '../device';
import type { GpuCounters } from './counters';
import { copyToHost } from './readback';

const align = (bytes: number): number => Math.max(256, Math.ceil(bytes / 256) * 256);

export class GpuMemory implements DeviceMemory {
  readonly #held = new Map<GPUBuffer, number>();
  /** buffers made inside `allocate` */
  #batch: GPUBuffer[] | undefined;

  constructor(
    readonly device: GPUDevice,
    readonly counters: GpuCounters,
  ) {}

  async allocate<T>(what: string, make: () => T): Promise<T> {
    const batch: GPUBuffer[] = [];
    const { bytes } = this.counters;
    this.device.pushErrorScope('out-of-memory');
    this.#batch = batch;
    try {
      const made = make();
      const wanted = this.counters.bytes - bytes;
      this.#batch = undefined;
      const error = await this.device.popErrorScope();
      if (error) {
        throw new OutOfMemoryError(
          `The GPU has no room for ${what} (${Math.ceil(wanted / 2 ** 20)} MiB). Use a smaller batch or model, or close what else uses the GPU.`,
          { cause: error },
        );
      }
      return made;
    } catch (error) {
      if (this.#batch) {
        this.#batch = undefined;
        await this.device.popErrorScope();
      }
      for (const buffer of batch) this.free(buffer);
      throw error;
    }
  }

  storage(label: string, bytes: number): GPUBuffer {
    return this.#create(
      label,
      align(bytes),
      GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST,
    );
  }

  uniform(label: string, bytes: number): GPUBuffer {
    return this.#create(label, align(bytes), GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST);
  }

  staging(label: string, bytes: number): GPUBuffer {
    return this.#create(label, align(bytes), GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST);
  }

  upload(label: string, data: ArrayBufferView<ArrayBuffer>): GPUBuffer {
    const buffer = this.storage(label, data.byteLength);
    this.write(buffer, 0, data);
    return buffer;
  }

  adopt(label: string, data: ArrayBufferView<ArrayBuffer>): GPUBuffer {
    return this.upload(label, data);
  }

  /** `data` is padded to the 4 bytes WebGPU asks for. */
  write(buffer: GPUBuffer, byteOffset: number, data: ArrayBufferView<ArrayBuffer>): void {
    const whole = data.byteLength & ~3;
    this.device.queue.writeBuffer(buffer, byteOffset, data.buffer, data.byteOffset, whole);
    if (whole < data.byteLength) {
      const tail = new Uint8Array(4);
      tail.set(new Uint8Array(data.buffer, data.byteOffset + whole, data.byteLength - whole));
      this.device.queue.writeBuffer(buffer, byteOffset + whole, tail);
    }
  }

  copy(label: string, from: GPUBuffer, bytes: number): GPUBuffer {
    const copy = this.storage(label, bytes);
    this.copyInto(from, copy, bytes);
    return copy;
  }

  copyInto(from: GPUBuffer, to: GPUBuffer, bytes: number): void {
    const encoder = this.device.createCommandEncoder({ label: 'copy' });
    encoder.copyBufferToBuffer(from, 0, to, 0, bytes);
    this.counters.submits++;
    this.device.queue.submit([encoder.finish()]);
  }

  read(buffers: readonly GPUBuffer[], bytes: number): ReturnType<DeviceMemory['read']> {
    return copyToHost(this, buffers, bytes);
  }

  free(buffer: GPUBuffer): void {
    const bytes = this.#held.get(buffer);
    if (bytes === undefined) return;
    this.#held.delete(buffer);
    this.counters.bytes -= bytes;
    buffer.destroy();
  }

  /** Frees everything. */
  dispose(): void {
    for (const buffer of [...this.#held.keys()]) this.free(buffer);
  }

  #create(label: string, size: number, usage: GPUBufferUsageFlags): GPUBuffer {
    const limit = this.device.limits.maxBufferSize;
    if (size > limit) {
      throw new OutOfMemoryError(
        `${label} needs a buffer of ${size} bytes; this GPU allows ${limit}. Use a smaller batch or model.`,
      );
    }
    const buffer = this.device.createBuffer({ label, size, usage });
    this.#held.set(buffer, size);
    this.#batch?.push(buffer);
    this.counters.bufferCreations++;
    this.counters.bytes += size;
    this.counters.peakBytes = Math.max(this.counters.peakBytes, this.counters.bytes);
    return buffer;
  }
}
