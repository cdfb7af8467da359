/** Buffers of the ONNX device: memory of the host. */
import { OutOfMemoryError } from '../../../api/contract/errors';
import type { DeviceBuffer, DeviceCounters, DeviceMemory } from '../device';
import { isOutOfMemory, outOfMemory, type WorkQueue } from './queue';

/** A run that writes a buffer gives it new memory when it has succeeded. */
export class OnnxBuffer implements DeviceBuffer {
  constructor(
    readonly label: string,
    readonly size: number,
    /** `size` bytes; none once it is freed */
    public data: ArrayBuffer,
  ) {}
}

export class OnnxMemory implements DeviceMemory {
  readonly #held = new Set<OnnxBuffer>();
  /** buffers made inside `allocate` */
  #batch: OnnxBuffer[] | undefined;
  /** memory that is free for the outputs of the next run, by its bytes */
  readonly #spares = new Map<number, ArrayBuffer[]>();

  constructor(
    readonly queue: WorkQueue,
    readonly counters: DeviceCounters,
  ) {}

  async allocate<T>(what: string, make: () => T): Promise<T> {
    const batch: OnnxBuffer[] = [];
    this.#batch = batch;
    try {
      return make();
    } catch (error) {
      for (const buffer of batch) this.free(buffer);
      if (isOutOfMemory(error) || error instanceof OutOfMemoryError) throw outOfMemory(what, error);
      throw error;
    } finally {
      this.#batch = undefined;
    }
  }

  storage(label: string, bytes: number): OnnxBuffer {
    this.queue.check();
    const size = Math.max(4, Math.ceil(bytes / 4) * 4);
    let data: ArrayBuffer;
    try {
      data = new ArrayBuffer(size);
    } catch (error) {
      throw outOfMemory(`${label} (${size} bytes)`, error);
    }
    return this.#hold(new OnnxBuffer(label, size, data));
  }

  upload(label: string, data: ArrayBufferView<ArrayBuffer>): OnnxBuffer {
    const buffer = this.storage(label, data.byteLength);
    new Uint8Array(buffer.data).set(bytesOf(data));
    return buffer;
  }

  adopt(label: string, data: ArrayBufferView<ArrayBuffer>): OnnxBuffer {
    this.queue.check();
    const { buffer, byteLength } = data;
    // a part of something larger would keep all of it
    const whole = byteLength === buffer.byteLength && byteLength % 4 === 0 && byteLength > 0;
    return whole ? this.#hold(new OnnxBuffer(label, byteLength, buffer)) : this.upload(label, data);
  }

  write(buffer: DeviceBuffer, byteOffset: number, data: ArrayBufferView<ArrayBuffer>): void {
    const to = own(buffer);
    if (byteOffset + data.byteLength > to.size) {
      throw new RangeError(
        `${to.label}: ${data.byteLength} bytes at ${byteOffset} do not fit into its ${to.size} bytes`,
      );
    }
    const bytes = bytesOf(data).slice();
    this.#later(`writing ${to.label}`, () => new Uint8Array(to.data).set(bytes, byteOffset));
  }

  copy(label: string, from: DeviceBuffer, bytes: number): OnnxBuffer {
    const to = this.storage(label, bytes);
    this.copyInto(from, to, bytes);
    return to;
  }

  copyInto(from: DeviceBuffer, to: DeviceBuffer, bytes: number): void {
    const [source, target] = [own(from), own(to)];
    this.#later(`copying ${source.label}`, () =>
      new Uint8Array(target.data).set(new Uint8Array(source.data, 0, bytes)),
    );
  }

  async read(
    buffers: readonly DeviceBuffer[],
    bytes: number,
  ): Promise<{ readonly done: Promise<ArrayBuffer[]> }> {
    const copies = await this.queue.enqueue('reading back', () =>
      buffers.map((buffer) => own(buffer).data.slice(0, bytes)),
    );
    return { done: Promise.resolve(copies) };
  }

  free(buffer: DeviceBuffer): void {
    const mine = own(buffer);
    if (!this.#held.delete(mine)) return;
    this.counters.bytes -= mine.size;
    // what was asked before may still read it
    this.#later(`freeing ${mine.label}`, () => {
      mine.data = new ArrayBuffer(0);
    });
  }

  /** Memory of `bytes` for a run to write its output into; what it holds means nothing. */
  takeSpare(bytes: number): ArrayBuffer {
    const spare = this.#spares.get(bytes)?.pop();
    if (spare) return spare;
    const data = new ArrayBuffer(bytes);
    this.#count(bytes);
    return data;
  }

  giveSpare(data: ArrayBuffer): void {
    const spares = this.#spares.get(data.byteLength) ?? [];
    spares.push(data);
    this.#spares.set(data.byteLength, spares);
  }

  /** Gives up the memory kept for the outputs of runs. */
  dropSpares(): void {
    for (const [bytes, spares] of this.#spares) this.counters.bytes -= bytes * spares.length;
    this.#spares.clear();
  }

  /** Frees everything. */
  dispose(): void {
    for (const buffer of [...this.#held]) {
      this.#held.delete(buffer);
      this.counters.bytes -= buffer.size;
      buffer.data = new ArrayBuffer(0);
    }
    this.dropSpares();
  }

  #hold(buffer: OnnxBuffer): OnnxBuffer {
    this.#held.add(buffer);
    this.#batch?.push(buffer);
    this.counters.bufferCreations++;
    this.#count(buffer.size);
    return buffer;
  }

  #count(bytes: number): void {
    this.counters.bytes += bytes;
    this.counters.peakBytes = Math.max(this.counters.peakBytes, this.counters.bytes);
  }

  /** Queues what nobody waits for. After a loss it is left undone, as everything then is. */
  #later(what: string, work: () => void): void {
    void this.queue.enqueue(what, work).catch(() => undefined);
  }
}

/** A device is only ever given buffers that it made. */
export function own(buffer: DeviceBuffer): OnnxBuffer {
  if (!(buffer instanceof OnnxBuffer)) throw new Error('this buffer belongs to another device');
  return buffer;
}

const bytesOf = (data: ArrayBufferView<ArrayBuffer>): Uint8Array<ArrayBuffer> =>
  new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
