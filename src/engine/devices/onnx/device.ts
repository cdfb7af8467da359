/** ONNX Runtime as a device: a trace becomes one graph, and memory is the host's. */
import type { DeviceInfo } from '../../../api/contract/types';
import type { Trace } from '../../trace';
import type { Buffers, CompileOptions, Device, DeviceCounters, DeviceLoss } from '../device';
import { lowerTrace } from './lowering';
import { own, OnnxMemory } from './memory';
import { OnnxPlan } from './plan';
import { WorkQueue } from './queue';
import type { OnnxRuntime } from './runtime';
import { Sessions } from './sessions';

export class OnnxDevice implements Device {
  readonly info: DeviceInfo;
  readonly counters: DeviceCounters = {
    dispatches: 0,
    submits: 0,
    bufferCreations: 0,
    bindGroupCreations: 0,
    pipelines: 0,
    bytes: 0,
    peakBytes: 0,
  };
  readonly memory: OnnxMemory;
  /** a token takes milliseconds, and its sampling none: nothing is gained by running ahead */
  readonly pace = { steps: 1, ahead: 1 };
  readonly mergesAdapters = false;
  readonly lost: Promise<DeviceLoss>;
  /** the runtime complains in the calls themselves */
  onFault: ((message: string) => void) | undefined;
  readonly #queue: WorkQueue;
  readonly #sessions: Sessions;
  #disposed = false;

  constructor(readonly runtime: OnnxRuntime) {
    this.info = runtime.info;
    this.#queue = new WorkQueue((error) => runtime.survives(error));
    this.lost = this.#queue.lost;
    this.memory = new OnnxMemory(this.#queue, this.counters);
    this.#sessions = new Sessions(runtime, this.#queue, this.counters);
  }

  async compile(trace: Trace, { capacity, constants = {}, resident }: CompileOptions): Promise<OnnxPlan> {
    this.#queue.check();
    const { runtime, memory, counters } = this;
    // natively a constant lies packed for products of one row, which read it at five times the rate
    const files = resident ? contentsOf(trace, constants) : NO_FILES;
    const lowered = lowerTrace(trace, new Set(files.keys()));
    const taken = await this.#sessions.take(lowered.graph, files);
    const context = { runtime, memory, counters, queue: this.#queue };
    return new OnnxPlan(context, trace, lowered, taken, capacity, constants);
  }

  async prepare(trace: Trace): Promise<void> {
    await this.#sessions.prepare(lowerTrace(trace, new Set()).graph);
  }

  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#queue.close('the device was disposed');
    await this.#sessions.dispose();
    this.memory.dispose();
    if (!this.#queue.broken) this.runtime.dispose();
  }
}

const NO_FILES: ReadonlyMap<string, ArrayBuffer> = new Map();

/** What the constants that a trace names hold, by name. */
function contentsOf(trace: Trace, constants: Buffers): Map<string, ArrayBuffer> {
  const contents = new Map<string, ArrayBuffer>();
  for (const name of trace.states.keys()) {
    const buffer = constants[name];
    if (buffer) contents.set(name, own(buffer).data);
  }
  return contents;
}
