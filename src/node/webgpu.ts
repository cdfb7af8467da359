/** WebGPU in Node: of Node itself where it has it, else of the optional package `webgpu` (Dawn). */
import { DeviceUnavailableError } from '../api/contract/errors';
import type { DeviceOpener } from '../engine/devices/device';
import { webgpuOpener } from '../engine/devices/webgpu/webgpu-device';

/** What we use of the package. */
interface Dawn {
  readonly create: (flags: readonly string[]) => GPU;
  /** `GPUBufferUsage` and the like */
  readonly globals: object;
}

/** Kept as long as the thread lives: Dawn may crash when its root object is collected before what came of it. */
let dawn: GPU | undefined;

async function findGpu(): Promise<GPU> {
  // Node 20 has no `navigator` at all
  const own = globalThis.navigator?.gpu as GPU | undefined;
  if (own) return own;
  if (dawn) return dawn;
  // not a literal: the package may be absent, for the compiler as for bundlers
  const name = 'webgpu';
  let found: Dawn;
  try {
    found = (await import(/* @vite-ignore */ name)) as Dawn;
  } catch (cause) {
    throw new DeviceUnavailableError(
      'Node has no WebGPU of its own, and the package webgpu is not there: `npm install webgpu` adds it',
      { cause },
    );
  }
  Object.assign(globalThis, found.globals);
  return (dawn = found.create([]));
}

export const nodeWebgpuOpener: DeviceOpener = {
  kind: 'webgpu',
  open: async () => webgpuOpener(await findGpu()).open(),
};
