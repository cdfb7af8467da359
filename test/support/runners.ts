/** What ops are tested on: one table, so that every oracle checks every lowering. */
import type { AdapterProfile, HostArray, Op, RunValues, Tensors } from '../../src/kernels/op';
import { runOp, type HostTensor } from './gpu';
import { runOpOnnx } from './onnx';

/** Runs a single op and returns every output that is not scratch. */
export type Run = <I extends Tensors, O extends string, A>(
  op: Op<I, O, A>,
  inputs: { readonly [K in keyof I]: HostTensor },
  attrs: A,
  options?: {
    /** dynamic sizes and scalars */
    readonly values?: RunValues;
    /** memory planned for the dynamic sizes, where that is planned; default: exactly `values` */
    readonly capacity?: RunValues;
  },
) => Promise<Record<O, HostArray>>;

/** The kernels that an adapter of this kind gets. */
export const onWebGpu =
  (profile: Partial<AdapterProfile>): Run =>
  (op, inputs, attrs, options = {}) =>
    runOp(op, inputs, attrs, { ...options, profile });

export const onOnnx: Run = (op, inputs, attrs, { values = {} } = {}) =>
  runOpOnnx(op, inputs, attrs, { values });

export interface Runner {
  readonly kind: 'software' | 'gpu' | 'onnx';
  /** for titles of tests */
  readonly name: string;
  readonly run: Run;
}

const software: Runner = { kind: 'software', name: 'software kernels', run: onWebGpu({ kind: 'software' }) };
const onnx: Runner = { kind: 'onnx', name: 'ONNX Runtime', run: onOnnx };

/** For ops that have other kernels on other adapters. */
export const RUNNERS: readonly Runner[] = [
  software,
  { kind: 'gpu', name: 'GPU kernels', run: onWebGpu({ kind: 'gpu' }) },
  onnx,
];

/** For ops that have the same kernels on all adapters. */
export const DEVICES: readonly Runner[] = [{ ...software, name: 'WebGPU' }, onnx];
