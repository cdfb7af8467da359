/**
 * Packed segments as a padded batch of S sequences with L places each, L the longest: all that depends on the
 * segments alone, made once in a graph. Places behind the end of a sequence repeat its last row, so that no sequence
 * sees another's numbers. Rows are copied to their places and back head by head, which is the transposition that
 * products of heads need anyway: where all segments are equally long, padding costs nothing.
 *
 * Queries are taken in blocks, each with the keys up to its end, so that less is computed only to be hidden.
 */
import type { Dim, Graph, Value } from '../../onnx/graph';
import { add, cast, concat, div, mul, reshape, slice, sub, transpose } from '../operators';
import type { OnnxLowering, TensorRef } from '../op';

/** Added to the scores of keys that a query must not see: exp of them is exactly 0, and differences stay finite. */
export const HIDDEN = -1e30;

/** Stacked heads: `count` heads of a tensor (T, perRow · headDim), from head `first` on. */
export interface HeadRun {
  readonly value: Value;
  readonly perRow: number;
  readonly first: number;
  readonly count: number;
}

/** Of queries. Four spare three eighths of the work; more gain little, and cost operators. */
const BLOCKS = 4;

/** Places `begin` to `end`, (1) i64; and how the numbers of places in it, and up to its end, are called in shapes. */
interface Block {
  readonly begin: Value;
  readonly end: Value;
  readonly length: string;
  readonly reach: string;
}

/** `times` as many, in shapes. */
export const product = (times: number, size: Dim): Dim =>
  typeof size === 'number' ? times * size : times === 1 ? size : `${times}·${size}`;

export class Padding {
  readonly blocks: readonly Block[];
  /** (S, 1) */
  readonly #starts: Value;
  readonly #ends: Value;
  /** (T, 1): the number of a row's sequence, and its place in it */
  readonly #sequence: Value;
  readonly #place: Value;
  /** L, and 0 … L − 1 */
  readonly #longest: Value;
  readonly #places: Value;

  /** @param tokens the size T */
  private constructor(
    readonly graph: Graph,
    readonly segments: Value,
    readonly tokens: Dim,
  ) {
    const [zero, one] = [graph.i32(0), graph.i32(1)];
    const start = slice(graph, segments, 1, 0, 1);
    const count = cast(graph, graph.node('Shape', [segments], { start: 0, end: 1 }, 'i64'), 'i32');
    const rows = graph.node('Range', [zero, reshape(graph, count, []), one]);
    const row = graph.shaped(reshape(graph, rows, [-1, 1]), [tokens, 1]);
    const first = graph.node('Equal', [start, row], {}, 'bool');
    const compressed = graph.node('Compress', [segments, reshape(graph, first, [-1])], { axis: 0 });
    const sequences = graph.shaped(compressed, ['S', 2]);
    this.#starts = slice(graph, sequences, 1, 0, 1);
    this.#ends = slice(graph, sequences, 1, 1, 2);
    const longest = graph.node('ReduceMax', [sub(graph, this.#ends, this.#starts)], { keepdims: 0 });
    // no block is empty
    this.#longest = graph.node('Max', [longest, graph.i32(BLOCKS)]);
    this.#places = graph.shaped(graph.node('Range', [zero, this.#longest, one]), ['L']);
    this.#sequence = sub(graph, graph.node('CumSum', [cast(graph, first, 'i32'), graph.i64(0)]), one);
    this.#place = sub(graph, row, start);

    const length = reshape(graph, cast(graph, this.#longest, 'i64'), [1]);
    const bound = (n: number): Value => div(graph, mul(graph, length, graph.i64([n])), graph.i64([BLOCKS]));
    this.blocks = Array.from({ length: BLOCKS }, (_, n) => ({
      begin: bound(n),
      end: bound(n + 1),
      length: `L${n}`,
      reach: n === BLOCKS - 1 ? 'L' : `E${n}`,
    }));
  }

  /** @param segments (T, 2) i32: [start, end) of each row's sequence */
  static of(segments: TensorRef, on: OnnxLowering): Padding {
    const { graph } = on;
    const value = on.value(segments);
    return graph.once(`padding of ${value.name}`, () => new Padding(graph, value, segments.shape[0]!));
  }

  #once(what: string, make: () => Value): Value {
    return this.graph.once(`${what} of ${this.segments.name}`, make);
  }

  /** x with the places of a block, its dimension before the last. @param shape what it is then */
  #within(block: number, x: Value, shape: (length: string) => readonly Dim[]): Value {
    const { graph } = this;
    const { begin, end, length } = this.blocks[block]!;
    return graph.shaped(graph.node('Slice', [x, begin, end, graph.i64([-2])]), shape(length));
  }

  /** The same with all places up to the end of a block. */
  #until(block: number, x: Value, shape: (reach: string) => readonly Dim[]): Value {
    const { graph } = this;
    const { end, reach } = this.blocks[block]!;
    return graph.shaped(graph.node('Slice', [x, graph.i64([0]), end, graph.i64([-2])]), shape(reach));
  }

  /** Of x (S, heads, L, n) the keys that the queries of a block see, (S, heads, E, n). */
  until(block: number, x: Value, heads: number, n: number): Value {
    if (block === this.blocks.length - 1) return x;
    return this.#until(block, x, (reach) => ['S', heads, reach, n]);
  }

  /** What was made for the keys of the block before, (S, heads, E, n), with zeros for those that this one has more. */
  widened(block: number, x: Value, heads: number, n: number): Value {
    const { graph } = this;
    const pads = this.#once(`pads of block ${block}`, () => {
      const more = sub(graph, this.blocks[block]!.end, this.blocks[block - 1]!.end);
      return concat(graph, [graph.i64([0, 0, 0, 0, 0, 0]), more, graph.i64([0])], 0);
    });
    return graph.shaped(graph.node('Pad', [x, pads]), ['S', heads, this.blocks[block]!.reach, n]);
  }

  /** (S, 1, block, 1): 1 at places of rows, 0 behind the end. */
  real(block: number): Value {
    const { graph } = this;
    const whole = this.#once('real places', () => {
      const inside = graph.node('Less', [add(graph, this.#starts, this.#places), this.#ends], {}, 'bool');
      return graph.node('Unsqueeze', [cast(graph, inside, 'f32'), graph.i64([1, 3])]);
    });
    return this.#once(`real places of block ${block}`, () =>
      this.#within(block, whole, (length) => ['S', 1, length, 1]),
    );
  }

  /** (times·block, E): 0 where a query may see a key, `HIDDEN` where not; `times` masks one below the other. */
  mask(block: number, times: number): Value {
    const { graph } = this;
    return this.#once(`mask of block ${block} for ${times}`, () => {
      const places = reshape(graph, this.#places, [0, 1]);
      const keys = transpose(
        graph,
        this.#until(block, places, (reach) => [reach, 1]),
        [1, 0],
      );
      const queries = this.#within(block, places, (length) => [length, 1]);
      const later = graph.node('Less', [queries, keys], {}, 'bool');
      const mask = graph.node('Where', [later, graph.f32(HIDDEN), graph.f32(0)], {}, 'f32');
      if (times === 1) return mask;
      const { length, reach } = this.blocks[block]!;
      return graph.shaped(graph.node('Tile', [mask, graph.i64([times, 1])]), [product(times, length), reach]);
    });
  }

  /** Heads by place, (S, count, L, width), or those of one block. */
  spread({ value, perRow, first, count }: HeadRun, width: number, block?: number): Value {
    const { graph } = this;
    const what = `places of heads ${first} + ${count} in ${perRow}`;
    let rows = this.#once(what, () => {
      const ends = sub(graph, this.#ends, graph.i32(1));
      const near = graph.node('Min', [add(graph, this.#starts, this.#places), ends]);
      const row = mul(graph, graph.node('Unsqueeze', [near, graph.i64([1])]), graph.i32(perRow));
      return add(graph, row, this.#heads(first, count, [-1, 1]));
    });
    if (block !== undefined) {
      const { begin, end, length } = this.blocks[block]!;
      const whole = rows;
      rows = this.#once(`${what}, block ${block}`, () =>
        graph.shaped(graph.node('Slice', [whole, begin, end, graph.i64([2])]), ['S', count, length]),
      );
    }
    const heads = graph.shaped(reshape(graph, value, [-1, width]), [product(perRow, this.tokens), width]);
    return graph.node('Gather', [heads, rows], { axis: 0 });
  }

  /** The reverse: heads by place, in any shape → (T, count·width). */
  gather(places: Value, count: number, width: number): Value {
    const { graph } = this;
    const rows = this.#once(`rows of ${count} heads`, () => {
      const head = mul(graph, this.#heads(0, count, [1, -1]), this.#longest);
      const before = mul(graph, this.#sequence, mul(graph, this.#longest, graph.i32(count)));
      return add(graph, add(graph, before, this.#place), head);
    });
    const heads = graph.shaped(reshape(graph, places, [-1, width]), [product(count, 'S·L'), width]);
    const packed = graph.node('Gather', [heads, rows], { axis: 0 });
    return reshape(graph, packed, [0, count * width]);
  }

  #heads(first: number, count: number, shape: readonly number[]): Value {
    const heads = Array.from({ length: count }, (_, h) => first + h);
    return reshape(this.graph, this.graph.i32(heads), shape);
  }
}
