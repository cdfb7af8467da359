/** Everything that belongs to one open GPU. */
import { newCounters } from './counters';
import { openGpu } from './device';
import { GpuMemory } from './memory';
import { PipelineCache } from './pipelines';
import type { GpuContext } from './plan';

/** Opens the GPU with its memory, pipeline cache and counters. */
export async function openContext(gpu?: GPU): Promise<GpuContext> {
  const { device, profile } = await openGpu(gpu);
  const counters = newCounters();
  return {
    device,
    profile,
    counters,
    memory: new GpuMemory(device, counters),
    pipelines: new PipelineCache(device, counters),
  };
}
