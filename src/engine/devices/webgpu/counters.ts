/** What the engine has asked of the GPU since it started; shown by `stats()`. */
export interface GpuCounters {
  /** kernel launches */
  dispatches: number;
  /** command buffers submitted */
  submits: number;
  /** buffers created */
  bufferCreations: number;
  /** bind groups created */
  bindGroupCreations: number;
  /** pipelines compiled */
  pipelines: number;
  /** bytes of GPU memory held now */
  bytes: number;
  /** highest `bytes` so far */
  peakBytes: number;
}

export function newCounters(): GpuCounters {
  return {
    dispatches: 0,
    submits: 0,
    bufferCreations: 0,
    bindGroupCreations: 0,
    pipelines: 0,
    bytes: 0,
    peakBytes: 0,
  };
}
