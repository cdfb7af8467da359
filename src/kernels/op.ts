/**
 * What an op is: a shape rule and one lowering for each kind of device.
 *
 * Programs are written once over ops (`engine/program`). Applying an op to a
 * trace records a node; a device asks the op how to run that node.
 */
import type { Graph, Value } from '../onnx/graph';
import type { Constant, Grid, KernelSpec } from './kernel';

export type DType = 'f32' | 'u32' | 'i32';

/** Data of a tensor on the host. */
export type HostArray = Float32Array<ArrayBuffer> | Uint32Array<ArrayBuffer> | Int32Array<ArrayBuffer>;

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

/** A tensor that its op leaves in parts, for readers that can do with them: they ask for `kind`. */
export interface Deferred {
  readonly kind: string;
  /** the tensor itself; called at most once, when a reader wants it whole */
  whole(): Value;
  /**
   * Of a state updated in place, if only some of its rows change: `rows` (n) i32, where −1 stands for none, and
   * their new contents `values` (n, width). They alone leave the runtime.
   */
  readonly patch?: { readonly rows: Value; readonly values: Value };
}

export type Lowered = Value | Deferred;

/** What a lowering to ONNX works with: the graph under way, and what earlier nodes have left in it. */
export interface OnnxLowering {
  readonly graph: Graph;
  /** A tensor, whole: f32, or i32 for both integer types. */
  value(ref: TensorRef): Value;
  /** What the tensor's op left it as, if in parts of this kind. */
  parts<D extends Deferred>(ref: TensorRef, kind: D['kind']): D | undefined;
  /**
   * Has values computed before what later ops make of tensors that are there already. The runtime computes what leads
   * to one output after the other: left to itself it would make gradients of weights, and sums over tiles of logits,
   * last of all, and hold what they are made of until then.
   */
  settle(...values: readonly Value[]): void;
  /** A scalar computed in f64 from the run's values at each run, by a name that says what it is. */
  scalar(name: string, of: (v: RunValues) => number, type?: 'f32' | 'i32' | 'i64'): Value;
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

interface OpBase<I extends Tensors, O extends string, A> {
  readonly name: string;
  /** The shape rule: what the outputs look like. Throws on inputs that do not fit. */
  outputs(inputs: I, attrs: A): Readonly<Record<O, OutputSpec>>;
  /** The launches that compute the outputs on WebGPU. Scratch memory is declared as one more output. */
  webgpu(node: Node<I, O, A>, profile: AdapterProfile): readonly Dispatch[];
}

interface GraphOp<I extends Tensors, O extends string, A> extends OpBase<I, O, A> {
  /** The same as operators of an ONNX graph. Scratch outputs are left out. Integers are i32 there. */
  onnx(node: Node<I, O, A>, on: OnnxLowering): Readonly<Partial<Record<O, Lowered>>>;
  readonly host?: undefined;
}

interface HostOp<I extends Tensors, O extends string, A> extends OpBase<I, O, A> {
  /**
   * In place of `onnx`, for what no operator says well: plain code that runs after the graph and writes the
   * outputs. `array` gives the memory of a tensor (of an output in place: that of the input).
   */
  host(node: Node<I, O, A>, array: (ref: TensorRef) => HostArray, v: RunValues): void;
  readonly onnx?: undefined;
}

/** Runs in an ONNX graph or on the host: exactly one of the two. */
export type Op<I extends Tensors, O extends string, A> = GraphOp<I, O, A> | HostOp<I, O, A>;

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
