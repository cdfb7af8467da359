/** Runs single ops on ONNX Runtime: the native one in Node, WebAssembly in the browser. */
import { type OnnxDevice } from '../../src/engine/devices/onnx/device';
import { Trace } from '../../src/engine/trace';
import type { DType, HostArray, Op, RunValues, Size, TensorRef, Tensors } from '../../src/kernels/op';

let shared: Promise<OnnxDevice> | undefined;

/** ONNX Runtime of this page or process; opened once. */
export function onnx(): Promise<OnnxDevice> {
  shared ??= open();
  return shared;
}

async function open(): Promise<OnnxDevice> {
  const opener = import.meta.env.SSR
    ? (await import('../../src/engine/devices/onnx/native')).nativeOpener()
    : (await import('../../src/engine/devices/onnx/wasm')).wasmOpener();
  return (await opener.open()) as OnnxDevice;
}

export interface HostTensor {
  readonly shape: readonly Size[];
  readonly data: HostArray;
}

const dtypeOf = (data: HostArray): DType =>
  data instanceof Float32Array ? 'f32' : data instanceof Uint32Array ? 'u32' : 'i32';

/**
 * Traces a single op, compiles it, runs it and reads back every output that its lowering computes (not its scratch
 * memory). The counterpart of `runOp` in `gpu.ts`.
 */
export async function runOpOnnx<I extends Tensors, O extends string, A>(
  op: Op<I, O, A>,
  inputs: { readonly [K in keyof I]: HostTensor },
  attrs: A,
  { values = {} }: { readonly values?: RunValues } = {},
): Promise<Record<O, HostArray>> {
  const device = await onnx();
  const trace = new Trace(`test.${op.name}`);
  const refs: Record<string, TensorRef> = {};
  const data: Record<string, HostArray> = {};
  for (const [name, t] of Object.entries<HostTensor>(inputs as Record<string, HostTensor>)) {
    refs[name] = trace.input(name, t.shape, dtypeOf(t.data));
    // what an op writes in place is not the caller's
    data[name] = t.data.slice();
  }
  const outputs = trace.apply(op, refs as unknown as I, attrs);
  for (const name of Object.keys(outputs)) trace.output(name, outputs[name as O]);
  const plan = await device.compile(trace, { capacity: values });
  try {
    const read = [...plan.lowered.outputs.keys()];
    return await plan.bind('test', {}).run({ values, inputs: data, read });
  } finally {
    plan.dispose();
  }
}
