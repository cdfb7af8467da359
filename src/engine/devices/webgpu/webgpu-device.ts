/** WebGPU as a device. */
import type { DeviceInfo } from '../../../api/contract/types';
import type { Trace } from '../../trace';
import type { CompileOptions, Device, DeviceLoss, DeviceOpener, Plan as DevicePlan } from '../device';
import { openContext } from './context';
import { lower, Plan, type GpuContext } from './plan';

/** A GPU hides its latency; a software adapter would only compute what nobody wants. */
const PACE = { gpu: { steps: 8, ahead: 2 }, software: { steps: 4, ahead: 1 } } as const;

export class WebGpuDevice implements Device {
  readonly info: DeviceInfo;
  readonly memory: GpuContext['memory'];
  readonly counters: GpuContext['counters'];
  readonly pace: Device['pace'];
  readonly mergesAdapters = true;
  readonly lost: Promise<DeviceLoss>;
  onFault: Device['onFault'];

  constructor(readonly context: GpuContext) {
    const { device, memory, counters, profile } = context;
    this.memory = memory;
    this.counters = counters;
    this.pace = PACE[profile.kind];
    this.info = {
      kind: 'webgpu',
      adapter: [profile.vendor, profile.architecture].filter(Boolean).join(' ') || 'unknown',
      software: profile.kind === 'software',
      threads: null,
      advice: null,
    };
    this.lost = new Promise((resolve) => {
      void device.lost.then(({ reason, message }) => {
        if (!this.#disposed) resolve({ message: `the GPU was lost (${message || reason})` });
      });
    });
    device.addEventListener('uncapturederror', ({ error }) =>
      this.onFault?.(`the GPU refused a command: ${error.message}`),
    );
  }

  #disposed = false;

  compile(trace: Trace, { capacity, constants }: CompileOptions): Promise<DevicePlan> {
    return Plan.compile(this.context, trace, capacity, constants as Readonly<Record<string, GPUBuffer>>);
  }

  /** Compiles the pipelines, which a later plan then finds ready. */
  async prepare(trace: Trace): Promise<void> {
    await lower(this.context, trace);
  }

  async dispose(): Promise<void> {
    this.#disposed = true;
    this.memory.dispose();
    this.context.device.destroy();
  }
}

/** Opens WebGPU. @param gpu default: `navigator.gpu` */
export const webgpuOpener = (gpu?: GPU): DeviceOpener => ({
  kind: 'webgpu',
  open: async () => new WebGpuDevice(await openContext(gpu)),
});
