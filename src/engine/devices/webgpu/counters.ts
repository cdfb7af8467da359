/** What the engine has asked of the GPU; see `DeviceCounters`. */
import type { DeviceCounters } from '../device';

export type GpuCounters = DeviceCounters;

export const newCounters = (): GpuCounters => ({
  dispatches: 0,
  submits: 0,
  bufferCreations: 0,
  bindGroupCreations: 0,
  pipelines: 0,
  bytes: 0,
  peakBytes: 0,
});
