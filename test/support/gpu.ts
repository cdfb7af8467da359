/** Runs single ops on the real GPU of the page, with validation errors turned into failures. */
import { openContext } from '../../src/engine/devices/webgpu/context';
import { Plan, type GpuContext } from '../../src/engine/devices/webgpu/plan';
import { Trace } from '../../src/engine/trace';
import type {
  AdapterProfile,
  DType,
  HostArray,
  Op,
  RunValues,
  Size,
  TensorRef,
  Tensors,
} from '../../src/kernels/op';

let shared: Promise<GpuContext> | undefined;

/** The GPU of this page; opened once. No adapter is a failure, never a skip. */
export function gpu(): Promise<GpuContext> {
  shared ??= openContext();
  return shared;
}

export interface HostTensor {
  readonly shape: readonly Size[];
  readonly data: HostArray;
}

const dtypeOf = (data: HostArray): DType =>
  data instanceof Float32Array ? 'f32' : data instanceof Uint32Array ? 'u32' : 'i32';

export interface RunOpOptions {
  /** dynamic sizes and scalars */
  values?: RunValues;
  /** memory planned for the dynamic sizes; default: exactly `values` */
  capacity?: RunValues;
  /** compile for another adapter than the real one (to test its variants) */
  profile?: Partial<AdapterProfile>;
}

/**
 * Traces a single op, compiles it, runs it and reads every output back.
 * Fails on any WebGPU validation or out-of-memory error.
 */
export async function runOp<I extends Tensors, O extends string, A>(
  op: Op<I, O, A>,
  inputs: { readonly [K in keyof I]: HostTensor },
  attrs: A,
  { values = {}, capacity = values, profile = {} }: RunOpOptions = {},
): Promise<Record<O, HostArray>> {
  const real = await gpu();
  const context: GpuContext = { ...real, profile: { ...real.profile, ...profile } };
  const trace = new Trace(`test.${op.name}`);
  const refs: Record<string, TensorRef> = {};
  const data: Record<string, HostArray> = {};
  for (const [name, t] of Object.entries<HostTensor>(inputs as Record<string, HostTensor>)) {
    refs[name] = trace.input(name, t.shape, dtypeOf(t.data));
    data[name] = t.data;
  }
  const outputs = trace.apply(op, refs as unknown as I, attrs);
  const names = Object.keys(outputs);
  for (const name of names) trace.output(name, outputs[name as O]);
  return guarded(context, async () => {
    const plan = await Plan.compile(context, trace, capacity);
    try {
      return await plan.bind('test', {}).run({ values, inputs: data, read: names });
    } finally {
      plan.dispose();
    }
  });
}

/** Runs `body` inside error scopes and fails if the GPU complained. */
export async function guarded<T>({ device }: GpuContext, body: () => Promise<T>): Promise<T> {
  device.pushErrorScope('validation');
  device.pushErrorScope('out-of-memory');
  const [outcome] = await Promise.allSettled([body()]);
  const memory = await device.popErrorScope();
  const validation = await device.popErrorScope();
  const error = memory ?? validation;
  if (error) throw new Error(`the GPU reported: ${error.message}`);
  if (outcome.status === 'rejected') throw outcome.reason;
  return outcome.value;
}
