/**
 * What the engine computes on. A device holds buffers, compiles traces to plans
 * and runs them; whatever is asked of it happens in the order in which it was
 * asked, though it happens later.
 */
import type { DeviceInfo, DeviceKind } from '../../api/contract/types';
import type { HostArray, RunValues } from '../../kernels/op';
import type { Trace } from '../trace';

/** Memory of a device. Only the device that made it knows what it is. */
export interface DeviceBuffer {
  /** bytes, padding included */
  readonly size: number;
}

export type Buffers = Readonly<Record<string, DeviceBuffer>>;

export interface DeviceMemory {
  /**
   * Runs `make`, which creates buffers, and waits until the device has them all; if it cannot, those it has are freed.
   * @throws OutOfMemoryError naming `what`
   */
  allocate<T>(what: string, make: () => T): Promise<T>;
  /** A zero-filled buffer of at least `bytes`. */
  storage(label: string, bytes: number): DeviceBuffer;
  /** A buffer holding `data`. */
  upload(label: string, data: ArrayBufferView<ArrayBuffer>): DeviceBuffer;
  /** The same for data that the caller gives up, and that nobody will write: it may become the buffer itself. */
  adopt(label: string, data: ArrayBufferView<ArrayBuffer>): DeviceBuffer;
  /** Writes at `byteOffset`; `data` may be reused at once. */
  write(buffer: DeviceBuffer, byteOffset: number, data: ArrayBufferView<ArrayBuffer>): void;
  /** A new buffer with the first `bytes` of another. */
  copy(label: string, from: DeviceBuffer, bytes: number): DeviceBuffer;
  /** Overwrites the first `bytes` of a buffer with those of another. */
  copyInto(from: DeviceBuffer, to: DeviceBuffer, bytes: number): void;
  /**
   * The first `bytes` of each as they are when this resolves; `done` is when the host has them.
   * @throws OutOfMemoryError
   */
  read(buffers: readonly DeviceBuffer[], bytes: number): Promise<{ readonly done: Promise<ArrayBuffer[]> }>;
  free(buffer: DeviceBuffer): void;
}

/** What has been asked of the device since it was opened; what a device does not have stays 0. */
export interface DeviceCounters {
  /** kernel launches, or operators run */
  dispatches: number;
  /** command buffers submitted, or graphs run */
  submits: number;
  bufferCreations: number;
  bindGroupCreations: number;
  /** pipelines or graphs compiled */
  pipelines: number;
  /** bytes held now, and the most so far */
  bytes: number;
  peakBytes: number;
}

export interface RunOptions {
  /** dynamic sizes (≤ the plan's capacities) and scalars */
  readonly values: RunValues;
  readonly inputs?: Readonly<Record<string, HostArray>>;
  /** names of outputs to read back, into arrays that are the caller's: later runs do not change them */
  readonly read?: readonly string[];
  /** how many times to replay the plan before reading back (decode steps); default 1 */
  readonly repeat?: number;
}

/** A plan with its persistent buffers. */
export interface BoundPlan {
  /**
   * Submits. Returns at once; the promise settles when the outputs named in `read` are on the host. A run that
   * fails on a device that is not lost leaves the states as they were, unless the device says otherwise.
   */
  run(options: RunOptions): Promise<Record<string, HostArray>>;
}

/** A trace compiled for a device. */
export interface Plan {
  readonly trace: Trace;
  /**
   * Binds to persistent buffers by state name; those given as constants may be left out. Bound plans are kept by
   * `key` (say, the model id): the same key must mean the same buffers.
   */
  bind(key: string, states: Buffers): BoundPlan;
  /** Forgets what was bound for `key`. */
  unbind(key: string): void;
  /** The plan's own buffer of a temporary that is an output; lives as long as the plan. */
  outputBuffer(name: string): DeviceBuffer;
  /** Frees the plan's own memory, not the states. */
  dispose(): void;
}

export interface CompileOptions {
  /** largest values of the dynamic sizes */
  readonly capacity: RunValues;
  /** states that are these same buffers, never written, for as long as the plan lives: frozen weights */
  readonly constants?: Buffers;
  /** the plan is run once for every token, so its constants had better lie where it computes */
  readonly resident?: boolean;
}

/** A kind of device, and how to open one. */
export interface DeviceOpener {
  readonly kind: DeviceKind;
  /**
   * Opens a new one, which owes nothing to an earlier one that was lost.
   * @throws DeviceUnavailableError saying what is missing and what to do
   */
  open(): Promise<Device>;
}

/** Why a device is no more. */
export interface DeviceLoss {
  readonly message: string;
}

export interface Device {
  readonly info: DeviceInfo;
  readonly memory: DeviceMemory;
  readonly counters: DeviceCounters;
  /** decode steps per submit, and submits in flight */
  readonly pace: { readonly steps: number; readonly ahead: number };
  /**
   * Whether samplers had better hold weights with their adapter merged in. If not, `W + scale·B·A` is left in parts
   * in every plan, and never takes memory.
   */
  readonly mergesAdapters: boolean;
  /**
   * Settles when the device is gone, unless by `dispose`. What was asked of it and is not done rejects then, and so
   * does whatever is asked later.
   */
  readonly lost: Promise<DeviceLoss>;
  /** called with what the device complains of outside any call; results since then are not to be trusted */
  onFault: ((message: string) => void) | undefined;
  compile(trace: Trace, options: CompileOptions): Promise<Plan>;
  /** Does what can be done of a later `compile` before weights are there. */
  prepare(trace: Trace): Promise<void>;
  dispose(): Promise<void>;
}
