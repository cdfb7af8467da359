/**
 * Packed segments as a padded batch of S sequences with L places each, L the longest: all that depends on the
 * segments alone, made once in a graph. Places behind the end of a sequence repeat its last row, so that no sequence
 * sees another's numbers. Rows are copied to their places and back head by head, which is the transposition that
 * products of heads need anyway: where all segments are equally long, padding costs nothing.
 *
 * Queries are taken in blocks, each with the keys up to its end, so that less is computed only to be hidden.
 */
import type { Graph, Value } from '../../onnx/graph';
import { add, cast, concat, div, mul, reshape, slice, sub } from '../operators';

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

/** Places `begin` to `end`, (1) i64. */
interface Block {
  readonly begin: Value;
  readonly end: Value;
}

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

  private constructor(
    readonly graph: Graph,
    readonly segments: Value,
  ) {
    const [zero, one] = [graph.i32(0), graph.i32(1)];
    const start = slice(graph, segments, 1, 0, 1);
    const tokens = cast(graph, graph.node('Shape', [segments], { start: 0, end: 1 }, 'i64'), 'i32');
    const rows = graph.node('Range', [zero, reshape(graph, tokens, []), one]);
    const row = reshape(graph, rows, [-1, 1]);
    const first = graph.node('Equal', [start, row], {}, 'bool');
    const sequences = graph.node('Compress', [segments, reshape(graph, first, [-1])], { axis: 0 });
    this.#starts = slice(graph, sequences, 1, 0, 1);
    this.#ends = slice(graph, sequences, 1, 1, 2);
    const longest = graph.node('ReduceMax', [sub(graph, this.#ends, this.#starts)], { keepdims: 0 });
    // no block is empty
    this.#longest = graph.node('Max', [longest, graph.i32(BLOCKS)]);
    this.#places = graph.node('Range', [zero, this.#longest, one]);
    this.#sequence = sub(graph, graph.node('CumSum', [cast(graph, first, 'i32'), graph.i64(0)]), one);
    this.#place = sub(graph, row, start);

    const length = reshape(graph, cast(graph, this.#longest, 'i64'), [1]);
    const bound = (n: number): Value => div(graph, mul(graph, length, graph.i64([n])), graph.i64([BLOCKS]));
    this.blocks = Array.from({ length: BLOCKS }, (_, n) => ({ begin: bound(n), end: bound(n + 1) }));
  }

  /** @param segments (T, 2) i32: [start, end) of each row's sequence */
  static of(graph: Graph, segments: Value): Padding {
    return graph.once(`padding of ${segments.name}`, () => new Padding(graph, segments));
  }

  #once(what: string, make: () => Value): Value {
    return this.graph.once(`${what} of ${this.segments.name}`, make);
  }

  /** x with the indices `from` to `to` of its places, the dimension before the last. */
  #cut(x: Value, from: Value, to: Value): Value {
    return this.graph.node('Slice', [x, from, to, this.graph.i64([-2])]);
  }

  /** Of x (…, L, n) the keys that the queries of a block see, (…, E, n). */
  until(block: number, x: Value): Value {
    if (block === this.blocks.length - 1) return x;
    return this.#cut(x, this.graph.i64([0]), this.blocks[block]!.end);
  }

  /** What was made for the keys of the block before, (S, heads, E, n), with zeros for those that this one has more. */
  widened(block: number, x: Value): Value {
    const { graph } = this;
    const pads = this.#once(`pads of block ${block}`, () => {
      const more = sub(graph, this.blocks[block]!.end, this.blocks[block - 1]!.end);
      return concat(graph, [graph.i64([0, 0, 0, 0, 0, 0]), more, graph.i64([0])], 0);
    });
    return graph.node('Pad', [x, pads]);
  }

  /** (S, 1, block, 1): 1 at places of rows, 0 behind the end. */
  real(block: number): Value {
    const { graph } = this;
    const whole = this.#once('real places', () => {
      const inside = graph.node('Less', [add(graph, this.#starts, this.#places), this.#ends], {}, 'bool');
      return graph.node('Unsqueeze', [cast(graph, inside, 'f32'), graph.i64([1, 3])]);
    });
    const { begin, end } = this.blocks[block]!;
    return this.#once(`real places of block ${block}`, () => this.#cut(whole, begin, end));
  }

  /** (times·block, E): 0 where a query may see a key, `HIDDEN` where not; `times` masks one below the other. */
  mask(block: number, times: number): Value {
    const { graph } = this;
    return this.#once(`mask of block ${block} for ${times}`, () => {
      const { begin, end } = this.blocks[block]!;
      const places = reshape(graph, this.#places, [-1, 1]);
      const keys = reshape(graph, this.#cut(places, graph.i64([0]), end), [1, -1]);
      const later = graph.node('Less', [this.#cut(places, begin, end), keys], {}, 'bool');
      const mask = graph.node('Where', [later, graph.f32(HIDDEN), graph.f32(0)], {}, 'f32');
      return times === 1 ? mask : graph.node('Tile', [mask, graph.i64([times, 1])]);
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
      const { begin, end } = this.blocks[block]!;
      const whole = rows;
      rows = this.#once(`${what}, block ${block}`, () =>
        graph.node('Slice', [whole, begin, end, graph.i64([2])]),
      );
    }
    return graph.node('Gather', [reshape(graph, value, [-1, width]), rows], { axis: 0 });
  }

  /** The reverse: heads by place, in any shape → (T, count·width). */
  gather(places: Value, count: number, width: number): Value {
    const { graph } = this;
    const rows = this.#once(`rows of ${count} heads`, () => {
      const head = mul(graph, this.#heads(0, count, [1, -1]), this.#longest);
      const before = mul(graph, this.#sequence, mul(graph, this.#longest, graph.i32(count)));
      return add(graph, add(graph, before, this.#place), head);
    });
    const packed = graph.node('Gather', [reshape(graph, places, [-1, width]), rows], { axis: 0 });
    return reshape(graph, packed, [-1, count * width]);
  }

  #heads(first: number, count: number, shape: readonly number[]): Value {
    const heads = Array.from({ length: count }, (_, h) => first + h);
    return reshape(this.graph, this.graph.i32(heads), shape);
  }
}
