/** The only place that asks for a GPU adapter and device. */
import { WebGPUUnavailableError } from '../../../api/contract/errors';
import type { AdapterProfile } from '../../../kernels/op';

export interface Gpu {
  readonly device: GPUDevice;
  readonly profile: AdapterProfile;
}

const SOFTWARE = /swiftshader|llvmpipe|lavapipe|softpipe|warp|microsoft basic render/i;

/** Describes an adapter in the terms kernels choose their variants by. */
export function profileOf(adapter: GPUAdapter): AdapterProfile {
  const { info, limits, features } = adapter;
  const text = [info.vendor, info.architecture, info.device, info.description].join(' ');
  return {
    kind: info.isFallbackAdapter || SOFTWARE.test(text) ? 'software' : 'gpu',
    vendor: info.vendor,
    architecture: info.architecture,
    subgroups: features.has('subgroups'),
    f16: features.has('shader-f16'),
    maxWorkgroupStorage: limits.maxComputeWorkgroupStorageSize,
    maxInvocations: limits.maxComputeInvocationsPerWorkgroup,
  };
}

/**
 * Opens the GPU.
 * @throws WebGPUUnavailableError when the browser has no WebGPU or no adapter.
 */
export async function openGpu(gpu: GPU | undefined = globalThis.navigator?.gpu): Promise<Gpu> {
  if (!gpu) {
    throw new WebGPUUnavailableError(
      'This browser does not offer WebGPU. Use a recent Chrome, Edge or Safari, and a page served over https or from localhost.',
    );
  }
  const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
  if (!adapter) {
    throw new WebGPUUnavailableError(
      'WebGPU is present but offers no adapter. Update the graphics driver, or start Chrome with --enable-unsafe-webgpu (add --use-webgpu-adapter=swiftshader on a machine without a GPU).',
    );
  }
  const wanted: GPUFeatureName[] = ['subgroups', 'shader-f16', 'timestamp-query'];
  const { limits } = adapter;
  const device = await adapter.requestDevice({
    label: 'webtinker',
    requiredFeatures: wanted.filter((f) => adapter.features.has(f)),
    requiredLimits: {
      maxBufferSize: limits.maxBufferSize,
      maxStorageBufferBindingSize: limits.maxStorageBufferBindingSize,
      maxComputeWorkgroupStorageSize: limits.maxComputeWorkgroupStorageSize,
      maxComputeInvocationsPerWorkgroup: limits.maxComputeInvocationsPerWorkgroup,
      maxComputeWorkgroupSizeX: limits.maxComputeWorkgroupSizeX,
    },
  });
  return { device, profile: profileOf(adapter) };
}
