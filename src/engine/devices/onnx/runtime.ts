/** What the device asks of ONNX Runtime, native or WebAssembly; both speak onnxruntime-common. */
import type { InferenceSession, Tensor } from 'onnxruntime-web';
import type { DeviceInfo } from '../../../api/contract/types';

export type OrtTensor = Tensor;
export type OrtSession = Pick<InferenceSession, 'run' | 'release'>;

/**
 * How sessions are compiled, by what was measured. Equal operators are not merged: traces compute things again so that
 * they need not be kept (tiles of logits, probabilities, gates), and merging them keeps them after all. Without a
 * pattern of memory for the whole graph, which is planned beside the memory of the first run, steps of a large model
 * take half as much. Threads that wait spin while a graph runs, which takes a tenth less for small models, and stop
 * when it ends, so that the processor is free for others between runs.
 */
export const SESSION_OPTIONS = {
  enableMemPattern: false,
  extra: {
    optimization: { disable_specified_optimizers: 'CommonSubexpressionElimination' },
    session: { force_spinning_stop: '1' },
  },
} as const;

export interface OnnxRuntime {
  readonly info: DeviceInfo;
  readonly Tensor: typeof Tensor;
  /** Compiles a model. @param files that its constants lie in, by their location */
  createSession(model: Uint8Array<ArrayBuffer>, files: ReadonlyMap<string, ArrayBuffer>): Promise<OrtSession>;
  /** Whether a run writes its outputs into tensors that it is given. */
  readonly writesInto: boolean;
  /** Whether the runtime can go on after this error. */
  survives(error: unknown): boolean;
  /** Called when the device is disposed, unless the runtime broke down. */
  dispose(): void;
}
