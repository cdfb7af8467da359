/** A plan with its states: feeds the session, and takes over what it returns. */
import { elements, type HostArray, type RunValues, type TensorRef } from '../../../kernels/op';
import type { BoundPlan, RunOptions } from '../device';
import type { Feed, Patch, ScalarFeed } from './lowering';
import type { OnnxBuffer } from './memory';
import type { OnnxPlan } from './plan';
import type { OrtTensor } from './runtime';
import { arrayOf, bytesOf, dimsOf, scalarOf, tensorOf } from './tensors';

/** What one run is given. */
interface Given {
  readonly values: RunValues;
  readonly inputs: Readonly<Record<string, HostArray>>;
}

type Tensors = Readonly<Record<string, OrtTensor>>;

export class OnnxBoundPlan implements BoundPlan {
  constructor(
    readonly plan: OnnxPlan,
    readonly states: ReadonlyMap<string, OnnxBuffer>,
  ) {}

  async run({ values, inputs = {}, read = [], repeat = 1 }: RunOptions): Promise<Record<string, HostArray>> {
    const { plan } = this;
    plan.checkCapacity(values);
    const landings = read.map((name) => [name, plan.landing(name)] as const);
    const given: Given = { values, inputs: this.#copies(inputs, values) };
    return plan.context.queue.enqueue(`'${plan.trace.name}'`, async () => {
      for (let i = 1; i < repeat; i++) await this.#step(given, []);
      const outputs = await this.#step(
        given,
        landings.flatMap(([, { output }]) => output ?? []),
      );
      return Object.fromEntries(
        landings.map(([name, { output, ref }]) => [
          name,
          output === undefined ? this.#array(ref, given).slice() : resultOf(outputs[output]!, ref),
        ]),
      );
    });
  }

  /** The caller may reuse its arrays at once. */
  #copies(inputs: Readonly<Record<string, HostArray>>, values: RunValues): Record<string, HostArray> {
    const { trace } = this.plan;
    const copies: Record<string, HostArray> = {};
    for (const [name, t] of trace.inputs) {
      const length = elements(t.shape, values);
      const given = inputs[name];
      if (!given || given.length < length) {
        throw new Error(
          `plan ${trace.name}: input ${name} needs ${length} elements, got ${given?.length ?? 'none'}`,
        );
      }
      copies[name] = given.slice(0, length);
    }
    return copies;
  }

  /** Runs the graph once, then what is left to the host. A graph that fails changes no state. */
  async #step(given: Given, wanted: readonly string[]): Promise<Tensors> {
    const { lowered, session, context, kept } = this.plan;
    const { memory, counters } = context;
    const fetches: Record<string, OrtTensor | null> = {};
    for (const name of [...wanted, ...lowered.fetched]) fetches[name] = null;
    for (const name of kept.keys()) fetches[this.plan.landing(name).output!] = null;
    const spares = this.#spares(given.values, fetches);
    let results: Tensors;
    try {
      const feeds: Record<string, OrtTensor> = {};
      for (const feed of lowered.feeds) feeds[feed.name] = this.#feed(feed, given);
      for (const scalar of lowered.scalars) feeds[scalar.name] = this.#scalar(scalar, given.values);
      // the runtime takes no run that nobody wants anything of
      results = Object.keys(fetches).length > 0 ? await session.run(feeds, fetches) : {};
    } catch (error) {
      for (const spare of spares.values()) memory.giveSpare(spare);
      throw error;
    }
    counters.submits++;
    counters.dispatches += lowered.graph.nodes.length;
    for (const [state, output] of lowered.replaced) this.#replace(state, results[output]!, spares.get(state));
    for (const patch of lowered.patches) this.#patch(patch, results);
    for (const [name, buffer] of kept) {
      new Uint8Array(buffer.data).set(bytesOf(results[this.plan.landing(name).output!]!));
    }
    this.#runHost(given, results);
    return results;
  }

  /** Memory for the new contents of states, where the runtime writes into what it is given. */
  #spares(values: RunValues, fetches: Record<string, OrtTensor | null>): Map<string, ArrayBuffer> {
    const { lowered, trace, context } = this.plan;
    const spares = new Map<string, ArrayBuffer>();
    for (const [state, output] of lowered.replaced) {
      fetches[output] = null;
      const { shape, dtype } = trace.states.get(state)!;
      const { size } = this.states.get(state)!;
      if (!context.runtime.writesInto || size !== 4 * elements(shape, values)) continue;
      const spare = context.memory.takeSpare(size);
      spares.set(state, spare);
      fetches[output] = tensorOf(context.runtime, dtype, spare, 0, dimsOf(shape, values));
    }
    return spares;
  }

  #replace(state: string, result: OrtTensor, spare: ArrayBuffer | undefined): void {
    const buffer = this.states.get(state)!;
    const bytes = bytesOf(result);
    if (spare) {
      this.plan.context.memory.giveSpare(buffer.data);
      buffer.data = spare;
    } else if (bytes.buffer.byteLength === buffer.size) {
      buffer.data = bytes.buffer;
    } else {
      new Uint8Array(buffer.data).set(bytes);
    }
  }

  #patch({ state, rows, values, width }: Patch, results: Tensors): void {
    const target = new Uint8Array(this.states.get(state)!.data);
    const contents = bytesOf(results[values]!);
    (results[rows]!.data as Int32Array).forEach((row, i) => {
      // −1: no row
      if (row >= 0) target.set(contents.subarray(4 * i * width, 4 * (i + 1) * width), 4 * row * width);
    });
  }

  #runHost(given: Given, results: Tensors): void {
    const { host, hostReads } = this.plan.lowered;
    const array = (ref: TensorRef): HostArray => {
      const output = hostReads.get(ref.storage);
      return output === undefined ? this.#array(ref, given) : resultOf(results[output]!, ref);
    };
    for (const { op, node } of host) op.host!(node, array, given.values);
  }

  /** The memory of a tensor that lies in a state or an input. */
  #array(ref: TensorRef, { values, inputs }: Given): HostArray {
    const { trace } = this.plan;
    const length = elements(ref.shape, values);
    for (const [name, t] of trace.states) {
      if (t.storage === ref.storage) {
        return arrayOf(ref.dtype, this.states.get(name)!.data, ref.offset, length);
      }
    }
    for (const [name, t] of trace.inputs) {
      if (t.storage === ref.storage) return inputs[name]!.subarray(ref.offset, ref.offset + length);
    }
    throw new Error(`plan ${trace.name}: ${ref.name} is not in the host's memory`);
  }

  #feed({ from, source, offset, shape, dtype }: Feed, { values, inputs }: Given): OrtTensor {
    const { runtime } = this.plan.context;
    const data = from === 'state' ? this.states.get(source)!.data : inputs[source]!.buffer;
    return tensorOf(runtime, dtype, data, offset, dimsOf(shape, values));
  }

  #scalar({ name, type, of }: ScalarFeed, values: RunValues): OrtTensor {
    const value = of[0]!(values);
    if (!of.every((other) => Object.is(other(values), value))) {
      throw new Error(`plan ${this.plan.trace.name}: two ops mean different numbers by ${name}`);
    }
    return scalarOf(this.plan.context.runtime, type, value);
  }
}

function resultOf(result: OrtTensor, { dtype }: TensorRef): HostArray {
  const { buffer, byteOffset, byteLength } = bytesOf(result);
  return arrayOf(dtype, buffer, byteOffset / 4, byteLength / 4);
}
