/**
 * Counts what any library in this page asks of WebGPU, from outside: launches, submits, buffers and bytes.
 * Must be installed before the libraries open their devices.
 */
export interface Census {
  dispatches: number;
  submits: number;
  bufferCreations: number;
  bindGroups: number;
  pipelines: number;
  /** bytes of the buffers alive now, and the most so far */
  bytes: number;
  peakBytes: number;
}

const total: Census = {
  dispatches: 0,
  submits: 0,
  bufferCreations: 0,
  bindGroups: 0,
  pipelines: 0,
  bytes: 0,
  peakBytes: 0,
};

let installed = false;

/** Wraps the WebGPU entry points of this page. Calling it again changes nothing. */
export function installCensus(): void {
  if (installed) return;
  installed = true;
  const wrap = <T extends object, K extends keyof T>(
    proto: T,
    method: K,
    after: (self: T, out: unknown) => void,
  ) => {
    const original = proto[method] as (...args: unknown[]) => unknown;
    proto[method] = function (this: T, ...args: unknown[]) {
      const out = original.apply(this, args);
      after(this, out);
      return out;
    } as T[K];
  };
  wrap(GPUComputePassEncoder.prototype, 'dispatchWorkgroups', () => total.dispatches++);
  wrap(GPUQueue.prototype, 'submit', () => total.submits++);
  wrap(GPUDevice.prototype, 'createBindGroup', () => total.bindGroups++);
  wrap(GPUDevice.prototype, 'createComputePipeline', () => total.pipelines++);
  wrap(GPUDevice.prototype, 'createComputePipelineAsync', () => total.pipelines++);
  const alive = new WeakSet<GPUBuffer>();
  wrap(GPUDevice.prototype, 'createBuffer', (_, out) => {
    const buffer = out as GPUBuffer;
    alive.add(buffer);
    total.bufferCreations++;
    total.bytes += buffer.size;
    total.peakBytes = Math.max(total.peakBytes, total.bytes);
  });
  wrap(GPUBuffer.prototype, 'destroy', (buffer) => {
    if (alive.delete(buffer)) total.bytes -= buffer.size;
  });
}

/** What happened while `body` ran (`peakBytes`: the most alive at once, above what was alive before). */
export async function census<T>(body: () => Promise<T>): Promise<{ result: T; counts: Census }> {
  const before = { ...total };
  total.peakBytes = total.bytes;
  const result = await body();
  const counts: Census = {
    dispatches: total.dispatches - before.dispatches,
    submits: total.submits - before.submits,
    bufferCreations: total.bufferCreations - before.bufferCreations,
    bindGroups: total.bindGroups - before.bindGroups,
    pipelines: total.pipelines - before.pipelines,
    bytes: total.bytes - before.bytes,
    peakBytes: total.peakBytes - before.bytes,
  };
  return { result, counts };
}
