/**
 * What lies in a stretch of memory while a trace becomes a graph. Memory does not
 * exist in a graph, only values: so every write is kept with its place, and a
 * read finds the value that was written there, or joins and cuts those that were.
 */
import type { Graph, Value } from '../../../onnx/graph';
import type { Deferred, Lowered, Size, TensorRef } from '../../../kernels/op';

/** A tensor's place in its storage. */
export interface Place {
  /** elements */
  readonly offset: number;
  readonly shape: readonly Size[];
}

interface Segment extends Place {
  /** elements; undefined: known at run time */
  readonly length: number | undefined;
  readonly content: Lowered;
}

/** Elements of a shape, undefined if one dimension is known only at run time. */
export function staticLength(shape: readonly Size[]): number | undefined {
  let n = 1;
  for (const size of shape) {
    if (typeof size !== 'number') return undefined;
    n *= size;
  }
  return n;
}

const samePlace = (a: Place, b: Place): boolean =>
  a.offset === b.offset && a.shape.length === b.shape.length && a.shape.every((s, i) => s === b.shape[i]);

export const isDeferred = (content: Lowered): content is Deferred => 'whole' in content;

/** One storage of a trace. */
export class Contents {
  /** written, by ascending offset, disjoint */
  #segments: Segment[] = [];
  readonly #wholes = new Map<Deferred, Value>();
  /** joined since the last write */
  #joined: { readonly place: Place; readonly value: Value }[] = [];

  constructor(
    readonly graph: Graph,
    readonly name: string,
    /** the original contents of a place; throws where there are none */
    readonly original: (place: Place) => Value,
  ) {}

  get written(): boolean {
    return this.#segments.length > 0;
  }

  /** What was written to exactly this place. */
  exact(place: Place): Lowered | undefined {
    return this.#segments.find((segment) => samePlace(segment, place))?.content;
  }

  write({ offset, shape }: TensorRef, content: Lowered): void {
    const length = staticLength(shape);
    const segment: Segment = { offset, shape, length, content };
    this.#joined = [];
    const others = this.#segments.filter((other) => !samePlace(other, segment));
    if (others.length > 0 && (length === undefined || others.some((other) => other.length === undefined))) {
      throw new Error(`${this.name}: parts of a size known at run time cannot be written side by side`);
    }
    const kept = others.flatMap((other) => this.#outside(other, offset, offset + (length ?? 0)));
    this.#segments = [...kept, segment].sort((a, b) => a.offset - b.offset);
  }

  read(place: Place): Value {
    const exact = this.exact(place);
    if (exact) return this.#whole(exact);
    const length = staticLength(place.shape);
    if (length === undefined) {
      if (this.written)
        throw new Error(`${this.name}: a part of a size known at run time, of what was written`);
      return this.original(place);
    }
    const known = this.#joined.find((joined) => samePlace(joined.place, place));
    if (known) return known.value;
    const { offset, shape } = place;
    const pieces = this.#pieces(offset, offset + length);
    if (!pieces) return this.original(place);
    const flat = pieces.length === 1 ? pieces[0]! : this.graph.node('Concat', pieces, { axis: 0 });
    const value = this.graph.node('Reshape', [flat, this.graph.i64(shape as number[])]);
    this.#joined.push({ place, value });
    return value;
  }

  /** The flat values that make up a range; undefined if nothing was written there. */
  #pieces(start: number, end: number): Value[] | undefined {
    const inside = this.#segments.filter((s) => s.offset < end && s.offset + s.length! > start);
    if (inside.length === 0) return undefined;
    const pieces: Value[] = [];
    let at = start;
    const originalTo = (to: number): void => {
      if (to > at) pieces.push(this.original({ offset: at, shape: [to - at] }));
    };
    for (const segment of inside) {
      const from = Math.max(start, segment.offset);
      const to = Math.min(end, segment.offset + segment.length!);
      originalTo(from);
      pieces.push(this.#cut(segment, from, to));
      at = to;
    }
    originalTo(end);
    return pieces;
  }

  /** Elements `from` to `to` of the storage, which lie in the segment, flat. */
  #cut(segment: Segment, from: number, to: number): Value {
    const { graph } = this;
    const flat = graph.node('Reshape', [this.#whole(segment.content), graph.i64([-1])]);
    if (to - from === segment.length) return flat;
    const [start, end] = [from - segment.offset, to - segment.offset];
    return graph.node('Slice', [flat, graph.i64([start]), graph.i64([end]), graph.i64([0])]);
  }

  /** What is left of a segment outside a range. */
  #outside(segment: Segment, start: number, end: number): Segment[] {
    const [from, to] = [segment.offset, segment.offset + segment.length!];
    if (to <= start || from >= end) return [segment];
    const rest = (a: number, b: number): Segment[] =>
      a < b ? [{ offset: a, shape: [b - a], length: b - a, content: this.#cut(segment, a, b) }] : [];
    return [...rest(from, start), ...rest(end, to)];
  }

  #whole(content: Lowered): Value {
    if (!isDeferred(content)) return content;
    let value = this.#wholes.get(content);
    if (!value) {
      value = content.whole();
      this.#wholes.set(content, value);
    }
    return value;
  }
}
