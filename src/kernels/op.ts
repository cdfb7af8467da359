/**
 * What an op is: a shape rule and one lowering per device.
 *
 * Programs are written once over ops (`engine/program`). Applying an op to a
 * trace records a node; a device asks the op how to run that node.
 */
import type { Constant, Grid, KernelSpec } from './kernel';

export type DType = 'f32' | 'u32' | 'i32';

/** A dimension: a fixed size, or the name of one that is given at run time (`'T'` = tokens of the batch). */
export type Size = number | string;

/** Values known only when a plan runs: the dynamic sizes and the named scalars (learning rate …). */
export type RunValues = Readonly<Record<string, number>>;

/** A tensor of a trace. Row-major; only the first dimension may be dynamic. */
export interface TensorRef {
  readonly id: number;
  readonly name: string;
  readonly shape: readonly Size[];
  readonly dtype: DType;
  /** The tensor whose memory this one uses (itself, unless it is a view or was written in place). */
  readonly storage: number;
  /** Offset into the storage, in elements; a multiple of 64 (256 bytes, the binding alignment). */
  readonly offset: number;
}

/** What the compiler of a device knows about the machine it compiles for. */
export interface AdapterProfile {
  /** `software`: a CPU rasteriser such as SwiftShader or lavapipe, where barriers and shared memory are slow. */
  readonly kind: 'gpu' | 'software';
  readonly vendor: string;
  readonly architecture: string;
  readonly subgroups: boolean;
  readonly f16: boolean;
  readonly maxWorkgroupStorage: number;
  readonly maxInvocations: number;
}

/** One kernel launch. */
export interface Dispatch {
  readonly kernel: KernelSpec;
  /** Compile-time constants. Each distinct set is one more pipeline to compile: prefer `params` for sizes. */
  readonly constants?: Readonly<Record<string, Constant>>;
  /** A tensor for every storage binding of the kernel. */
  readonly bind: Readonly<Record<string, TensorRef>>;
  /** Uniform parameters, from the run's values. */
  readonly params?: (v: RunValues) => Readonly<Record<string, number>>;
  /** Workgroups to launch, from the run's values; any zero skips the launch. */
  readonly grid: (v: RunValues) => Grid;
}

export type Tensors = Readonly<Record<string, TensorRef | undefined>>;

export interface OutputSpec {
  readonly shape: readonly Size[];
  readonly dtype: DType;
  /** Name of the input whose memory the output takes over. That input must not be used afterwards. */
  readonly inPlace?: string;
}

export interface Node<I extends Tensors, O extends string, A> {
  readonly inputs: I;
  readonly outputs: Readonly<Record<O, TensorRef>>;
  readonly attrs: A;
}

export interface Op<I extends Tensors, O extends string, A> {
  readonly name: string;
  /** The shape rule: what the outputs look like. Throws on inputs that do not fit. */
  outputs(inputs: I, attrs: A): Readonly<Record<O, OutputSpec>>;
  /** The launches that compute the outputs on WebGPU. Scratch memory is declared as one more output. */
  webgpu(node: Node<I, O, A>, profile: AdapterProfile): readonly Dispatch[];
}

/** Declares an op; a function only so that its types are inferred. */
export function op<I extends Tensors, const O extends string, A>(def: Op<I, O, A>): Op<I, O, A> {
  return def;
}

/** Resolves a dimension against the run's values. */
export function sizeOf(size: Size, v: RunValues): number {
  if (typeof size === 'number') return size;
  const value = v[size];
  if (value === undefined) throw new Error(`dynamic size '${size}' has no value in this run`);
  return value;
}

/** A dimension that must be fixed. */
export function fixed(size: Size | undefined, what: string): number {
  if (typeof size !== 'number') throw new Error(`${what} must be a fixed size, got ${String(size)}`);
  return size;
}

/** Number of elements of a shape under the run's values. */
export function elements(shape: readonly Size[], v: RunValues): number {
  return shape.reduce<number>((n, s) => n * sizeOf(s, v), 1);
}
