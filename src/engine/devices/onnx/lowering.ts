/**
 * A trace as one ONNX graph. States that no node writes are inputs where they
 * are read, each view an input of its own; a state that is written is read the
 * same way and becomes an output with its new contents.
 */
import { Graph, type ElementType, type Value } from '../../../onnx/graph';
import type { Deferred, DType, Lowered, OnnxLowering, RunValues, Size, TensorRef } from '../../../kernels/op';
import type { Trace, TraceNode } from '../../trace';
import { Contents, isDeferred, staticLength, type Place } from './contents';

/** An input of the graph that is a part of a state, or an input of the trace. */
export interface Feed extends Place {
  /** of the graph's input */
  readonly name: string;
  readonly from: 'state' | 'input';
  /** name of the state or of the trace's input */
  readonly source: string;
  readonly dtype: DType;
}

/** An input of the graph that is computed from the run's values. */
export interface ScalarFeed {
  readonly name: string;
  readonly type: 'f32' | 'i32' | 'i64';
  /** all who asked for it; they must agree */
  readonly of: readonly ((v: RunValues) => number)[];
}

/** Where a tensor is after the graph has run: an output of the graph, or memory of the host. */
export interface Landing {
  /** undefined: on the host */
  readonly output: string | undefined;
  readonly ref: TensorRef;
}

export interface Patch {
  readonly state: string;
  /** outputs of the graph */
  readonly rows: string;
  readonly values: string;
  /** elements of a row */
  readonly width: number;
}

export interface LoweredTrace {
  readonly graph: Graph;
  readonly feeds: readonly Feed[];
  readonly scalars: readonly ScalarFeed[];
  /** states that a run replaces, and the outputs that are their new contents */
  readonly replaced: ReadonlyMap<string, string>;
  readonly patches: readonly Patch[];
  /** by name of the trace's output; scratch memory that no lowering computes has none */
  readonly outputs: ReadonlyMap<string, Landing>;
  /** what runs on the host after the graph */
  readonly host: readonly TraceNode[];
  /** outputs of the graph that the host's nodes read, by storage */
  readonly hostReads: ReadonlyMap<number, string>;
  /** outputs of the graph that every run needs: those of patches and the host */
  readonly fetched: readonly string[];
}

/** What a node left to the host. */
const ON_HOST = 'host';

const ELEMENT: Readonly<Record<DType, 'f32' | 'i32'>> = { f32: 'f32', u32: 'i32', i32: 'i32' };

/**
 * Lowers every node of a trace.
 * @param constants names of states to make constants of the graph, stored under their names
 * @throws Error naming an op that has no lowering
 */
export function lowerTrace(trace: Trace, constants: ReadonlySet<string>): LoweredTrace {
  return new Lowering(trace, constants).run();
}

class Lowering implements OnnxLowering {
  readonly graph: Graph;
  readonly #contents = new Map<number, Contents>();
  readonly #feeds: Feed[] = [];
  readonly #scalars = new Map<
    string,
    { value: Value; feed: ScalarFeed & { of: ((v: RunValues) => number)[] } }
  >();
  /** what is settled before the next tensor is read */
  #unsettled: Value[] = [];
  readonly #host: TraceNode[] = [];
  readonly #hostReads = new Map<number, string>();
  readonly #names = new Map<number, { readonly from: 'state' | 'input'; readonly source: string }>();

  constructor(
    readonly trace: Trace,
    readonly constants: ReadonlySet<string>,
  ) {
    this.graph = new Graph(trace.name);
    for (const [source, t] of trace.inputs) this.#names.set(t.storage, { from: 'input', source });
    for (const [source, t] of trace.states) this.#names.set(t.storage, { from: 'state', source });
  }

  value(ref: TensorRef): Value {
    const contents = this.#of(ref);
    const exact = contents.exact(ref);
    this.#unsettled = this.#unsettled.filter((each) => each !== exact);
    if (this.#unsettled.length > 0 && exact && !isDeferred(exact) && !this.#names.has(ref.storage)) {
      contents.write(ref, this.#after(this.#unsettled, exact, ref.shape));
      this.#unsettled = [];
    }
    return contents.read(ref);
  }

  parts<D extends Deferred>(ref: TensorRef, kind: D['kind']): D | undefined {
    const content = this.#of(ref).exact(ref);
    return content && isDeferred(content) && content.kind === kind ? (content as D) : undefined;
  }

  settle(...values: readonly Value[]): void {
    this.#unsettled.push(...values);
  }

  scalar(name: string, of: (v: RunValues) => number, type: 'f32' | 'i32' | 'i64' = 'f32'): Value {
    let known = this.#scalars.get(name);
    if (!known) {
      const input = `value.${name}`;
      known = { value: this.graph.input(input, type, []), feed: { name: input, type, of: [] } };
      this.#scalars.set(name, known);
    }
    if (known.feed.type !== type) throw new Error(`scalar ${name} is both ${known.feed.type} and ${type}`);
    known.feed.of.push(of);
    return known.value;
  }

  run(): LoweredTrace {
    for (const node of this.trace.nodes) this.#lower(node);
    const outputs = this.#outputs();
    const patches: Patch[] = [];
    const replaced = new Map<string, string>();
    for (const [state, t] of this.trace.states) this.#leave(state, t, patches, replaced);
    return {
      graph: this.graph,
      feeds: this.#feeds,
      scalars: [...this.#scalars.values()].map(({ feed }) => feed),
      replaced,
      patches,
      outputs,
      host: this.#host,
      hostReads: this.#hostReads,
      fetched: [...this.#hostReads.values(), ...patches.flatMap(({ rows, values }) => [rows, values])],
    };
  }

  #lower(traced: TraceNode): void {
    const { op, node } = traced;
    if (op.host) {
      this.#leaveToHost(traced);
      return;
    }
    if (this.#host.length > 0) throw new Error(`op ${op.name} follows one that runs on the host`);
    const lowered = op.onnx(node, this);
    for (const [key, content] of Object.entries<Lowered | undefined>(lowered)) {
      const ref = node.outputs[key];
      if (!ref) throw new Error(`op ${op.name} has no output ${key}`);
      if (!content) continue;
      this.#of(ref).write(ref, content);
      if (isDeferred(content)) continue;
      this.graph.shaped(content, ref.shape);
    }
  }

  /** A value that is there only when `done` are: their numbers of rows, cut down to none, are added to its dimensions. */
  #after(done: readonly Value[], value: Value, shape: readonly Size[]): Value {
    const { graph } = this;
    const first = graph.i64([0]);
    const none = graph.once('no rows', () =>
      graph.node('Reshape', [this.scalar('none', () => 0, 'i64'), graph.i64([1])]),
    );
    let dims = graph.i64(shape.map((size) => (typeof size === 'number' ? size : -1)));
    for (const each of done) {
      const rows = graph.node('Slice', [each, first, none, first]);
      dims = graph.node('Add', [dims, graph.node('Shape', [rows], { start: 0, end: 1 }, 'i64')]);
    }
    return graph.shaped(graph.node('Reshape', [value, dims]), shape);
  }

  #leaveToHost(traced: TraceNode): void {
    const { op, node } = traced;
    this.#host.push(traced);
    for (const ref of Object.values(node.inputs)) {
      if (!ref || this.#names.has(ref.storage) || this.#onHost(ref) || this.#hostReads.has(ref.storage))
        continue;
      const name = `host.${ref.name}`;
      this.graph.output(name, this.value(ref), ref.shape);
      this.#hostReads.set(ref.storage, name);
    }
    const whole = (): never => {
      throw new Error(`the graph cannot read what ${op.name} writes: that is computed on the host`);
    };
    for (const ref of Object.values(node.outputs)) this.#of(ref).write(ref, { kind: ON_HOST, whole });
  }

  #onHost(ref: TensorRef): boolean {
    return this.parts(ref, ON_HOST) !== undefined;
  }

  /** Makes the trace's outputs outputs of the graph, unless the host has them. */
  #outputs(): Map<string, Landing> {
    const outputs = new Map<string, Landing>();
    for (const [name, ref] of this.trace.outputs) {
      const state = this.#names.get(ref.storage)?.from === 'state';
      const contents = this.#of(ref);
      if (state || this.#onHost(ref) || (this.#names.has(ref.storage) && !contents.written)) {
        outputs.set(name, { output: undefined, ref });
      } else if (contents.written) {
        const output = `out.${name}`;
        this.graph.output(output, contents.read(ref), ref.shape);
        outputs.set(name, { output, ref });
      }
    }
    return outputs;
  }

  /** Makes what a state holds at the end an output of the graph, if the graph wrote it. */
  #leave(state: string, t: TensorRef, patches: Patch[], replaced: Map<string, string>): void {
    const contents = this.#of(t);
    const end = contents.exact(t);
    if (!contents.written || (end && isDeferred(end) && end.kind === ON_HOST)) return;
    if (end && isDeferred(end) && end.patch) {
      const [rows, values] = [`patch.${state}.rows`, `patch.${state}.values`];
      this.graph.output(rows, end.patch.rows);
      this.graph.output(values, end.patch.values);
      const width = staticLength(t.shape.slice(1));
      if (width === undefined) throw new Error(`state ${state} is patched, but its rows have no fixed width`);
      patches.push({ state, rows, values, width });
      // graphs that differ in nothing but the length of what they patch are equal, and share a session
      const port = this.graph.inputs.get(state);
      if (port) this.graph.inputs.set(state, { ...port, shape: [`rows of ${state}`, ...t.shape.slice(1)] });
      return;
    }
    const output = `state.${state}`;
    this.graph.output(output, contents.read(t), t.shape);
    replaced.set(state, output);
  }

  #of(ref: TensorRef): Contents {
    let contents = this.#contents.get(ref.storage);
    if (!contents) {
      contents = new Contents(this.graph, ref.name, (place) => this.#original(ref, place));
      this.#contents.set(ref.storage, contents);
    }
    return contents;
  }

  /** A part of an input or state as it is when the run begins. */
  #original(ref: TensorRef, { offset, shape }: Place): Value {
    const named = this.#names.get(ref.storage);
    if (!named) throw new Error(`${ref.name} is read, but no lowering has computed it`);
    const { from, source } = named;
    const declared = (from === 'input' ? this.trace.inputs : this.trace.states).get(source)!;
    const name = partName(source, declared.shape, { offset, shape });
    const type: ElementType = ELEMENT[declared.dtype];
    return this.graph.once(`part ${name}`, () => {
      const length = staticLength(shape);
      if (from === 'state' && length !== undefined && this.constants.has(source)) {
        const stored = { location: source, byteOffset: 4 * offset, byteLength: 4 * length };
        return this.graph.constant(name, type, shape as readonly number[], stored);
      }
      this.#feeds.push({ name, from, source, offset, shape, dtype: declared.dtype });
      return this.graph.input(name, type, shape);
    });
  }
}

/** `tokens` for the whole of it, `lora.params[1024: 16×128]` for a part. */
function partName(source: string, whole: readonly Size[], { offset, shape }: Place): string {
  if (offset === 0 && shape.join() === whole.join()) return source;
  return `${source}[${offset}: ${shape.join('×')}]`;
}
