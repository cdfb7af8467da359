/** Everything that belongs to one open GPU. */
import { newCounters } from './counters';
import { openGpu } from './adapter';
import { GpuMemory } from './memory';
import { PipelineCache } from './pipelines';
import type { GpuContext } from './plan';
import { StagingPool } from './readback';

/** Opens the GPU with its memory, pipeline cache and counters. */
export async function openContext(gpu?: GPU): Promise<GpuContext> {
  const { device, profile } = await openGpu(gpu);
  const counters = newCounters();
  const memory = new GpuMemory(device, counters);
  return {
    device,
    profile,
    counters,
    memory,
    staging: new StagingPool(memory),
    pipelines: new PipelineCache(device, counters),
  };
}
