/**
 * A trace: the flat list of op nodes that one model step consists of.
 *
 * A program is a plain function that takes a `Trace` and calls ops on it. The
 * trace knows nothing of devices; a device compiles it into a plan
 * (`devices/device.ts`) that is then run as often as needed.
 */
import type { DType, Node, Op, OutputSpec, Size, TensorRef, Tensors } from '../kernels/op';

/** Where a tensor's memory comes from. */
export type Placement =
  /** uploaded by the caller at every run */
  | 'input'
  /** a buffer that outlives the run: weights, adapters, moments, caches */
  | 'state'
  /** planned by liveness inside the plan */
  | 'temp';

export interface TraceNode {
  readonly op: Op<Tensors, string, unknown>;
  readonly node: Node<Tensors, string, unknown>;
}

export class Trace {
  readonly nodes: TraceNode[] = [];
  readonly tensors: TensorRef[] = [];
  /** placement by storage id */
  readonly placement = new Map<number, Placement>();
  readonly inputs = new Map<string, TensorRef>();
  readonly states = new Map<string, TensorRef>();
  /** tensors the caller may read back, by name */
  readonly outputs = new Map<string, TensorRef>();
  /** storages whose current contents are under a newer tensor (written in place) */
  readonly #superseded = new Set<number>();

  constructor(readonly name: string) {}

  /** A tensor uploaded at every run. */
  input(name: string, shape: readonly Size[], dtype: DType): TensorRef {
    return this.#named(this.inputs, 'input', name, shape, dtype);
  }

  /** A tensor in a persistent buffer, given when the plan is bound. Asking twice gives the same one. */
  state(name: string, shape: readonly Size[], dtype: DType): TensorRef {
    return this.states.get(name) ?? this.#named(this.states, 'state', name, shape, dtype);
  }

  /** A part of a tensor, sharing its memory. `offset` in elements, a multiple of 64. */
  view(of: TensorRef, offset: number, shape: readonly Size[]): TensorRef {
    if (offset % 64 !== 0)
      throw new Error(`view of ${of.name} at element ${offset}: must be a multiple of 64`);
    this.#live(of);
    return this.#tensor(of.name, shape, of.dtype, of.storage, of.offset + offset);
  }

  /** Marks a tensor as readable after a run. */
  output(name: string, ref: TensorRef): void {
    if (this.outputs.has(name)) throw new Error(`trace ${this.name}: output ${name} is named twice`);
    this.#live(ref);
    this.outputs.set(name, ref);
  }

  /** Records one op and returns its outputs. */
  apply<I extends Tensors, O extends string, A>(
    op: Op<I, O, A>,
    inputs: I,
    attrs: A,
  ): Readonly<Record<O, TensorRef>> {
    for (const ref of Object.values(inputs)) if (ref) this.#live(ref);
    const outputs = {} as Record<O, TensorRef>;
    for (const [key, spec] of Object.entries<OutputSpec>(op.outputs(inputs, attrs))) {
      const taken = spec.inPlace === undefined ? undefined : inputs[spec.inPlace];
      if (taken) this.#superseded.add(taken.id);
      outputs[key as O] = this.#tensor(
        `${op.name}.${key}#${this.nodes.length}`,
        spec.shape,
        spec.dtype,
        taken?.storage,
        taken?.offset,
      );
    }
    this.nodes.push({
      op: op,
      node: { inputs, outputs, attrs },
    });
    return outputs;
  }

  #named(
    table: Map<string, TensorRef>,
    placement: Placement,
    name: string,
    shape: readonly Size[],
    dtype: DType,
  ): TensorRef {
    if (table.has(name)) throw new Error(`trace ${this.name}: ${placement} ${name} is declared twice`);
    const ref = this.#tensor(name, shape, dtype, undefined, undefined);
    this.placement.set(ref.storage, placement);
    table.set(name, ref);
    return ref;
  }

  #tensor(
    name: string,
    shape: readonly Size[],
    dtype: DType,
    storage: number | undefined,
    offset: number | undefined,
  ): TensorRef {
    const id = this.tensors.length;
    const ref: TensorRef = { id, name, shape, dtype, storage: storage ?? id, offset: offset ?? 0 };
    if (storage === undefined) this.placement.set(id, 'temp');
    this.tensors.push(ref);
    return ref;
  }

  #live(ref: TensorRef): void {
    if (this.#superseded.has(ref.id)) {
      throw new Error(`trace ${this.name}: ${ref.name} was overwritten in place and must not be read again`);
    }
  }
}
