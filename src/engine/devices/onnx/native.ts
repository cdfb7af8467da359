/** ONNX Runtime as native code: the package onnxruntime-node. */
import { availableParallelism } from 'node:os';
import type * as Ort from 'onnxruntime-node';
import { DeviceUnavailableError } from '../../../api/contract/errors';
import type { DeviceOpener } from '../device';
import { OnnxDevice } from './device';
import { SESSION_OPTIONS, type OnnxRuntime } from './runtime';

export interface NativeOptions {
  /** of one operator; default: as many as the processor has cores */
  readonly threads?: number;
}

/** Opens ONNX Runtime as a device of Node; the package is loaded only then. */
export const nativeOpener = (options: NativeOptions = {}): DeviceOpener => ({
  kind: 'cpu',
  open: async () => new OnnxDevice(await openRuntime(options)),
});

async function openRuntime({ threads = availableParallelism() }: NativeOptions): Promise<OnnxRuntime> {
  let ort: typeof Ort;
  try {
    ort = await import('onnxruntime-node');
  } catch (error) {
    throw new DeviceUnavailableError(
      `The native ONNX Runtime cannot be loaded here (${process.platform}, ${process.arch}). Install the package onnxruntime-node for this platform, or use device 'wasm'.`,
      { cause: error },
    );
  }
  const { InferenceSession, Tensor, env } = ort;
  return {
    info: {
      kind: 'cpu',
      adapter: `onnxruntime-node ${env.versions.node ?? ''}`.trim(),
      software: false,
      threads,
      advice: null,
    },
    Tensor,
    createSession: (model, files) =>
      InferenceSession.create(model, {
        ...SESSION_OPTIONS,
        intraOpNumThreads: threads,
        externalData: [...files].map(([path, data]) => ({ path, data: new Uint8Array(data) })),
      }),
    writesInto: true,
    survives: () => true,
    dispose: () => undefined,
  };
}
