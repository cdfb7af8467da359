import type { Graph, Value } from '../../onnx/graph';
import { add, concat, mul, reshape, slice, split } from '../operators';
import type { Deferred, OnnxLowering, TensorRef } from '../op';
import type { RopeAttrs } from './rope';

/** Stacked heads of which the leading ones were computed apart from the others. */
export interface StackedHeads extends Deferred {
  readonly kind: 'stacked-heads';
  /** (T, leading heads · headDim) */
  readonly lead: Value;
  /** where the other heads are: (T, width), from a column on to the last */
  readonly rest: { readonly value: Value; readonly width: number; readonly column: number };
}

/** The stacked heads of which `rest` says where those behind `lead` are. */
export function stackedHeads(graph: Graph, lead: Value, rest: StackedHeads['rest']): StackedHeads {
  const whole = (): Value => {
    const { value, width, column } = rest;
    const tail = column === 0 ? value : slice(graph, value, 1, column, width);
    return concat(graph, [lead, tail], 1);
  };
  return { kind: 'stacked-heads', lead, rest, whole };
}

/** cos and sin (T, 1, headDim) of the rows' positions: of each twice, the first half of the sines negative. */
function angles(graph: Graph, table: Value, positions: Value, { headDim, inverse }: RopeAttrs) {
  return graph.once(`rope ${table.name} ${positions.name} ${inverse}`, () => {
    const half = headDim / 2;
    const rows = graph.once(`rope rows ${table.name} ${positions.name}`, () =>
      split(graph, graph.node('Gather', [table, positions], { axis: 0 }), 1, [half, half]),
    );
    const [c, s] = rows as [Value, Value];
    const minus = graph.node('Neg', [s]);
    const spread = (parts: Value[]): Value => reshape(graph, concat(graph, parts, 1), [-1, 1, headDim]);
    return { cos: spread([c, c]), sin: spread(inverse ? [s, minus] : [minus, s]) };
  });
}

export function ropeOnnx(
  inputs: { qkv: TensorRef; positions: TensorRef; table: TensorRef },
  width: number,
  attrs: RopeAttrs,
  on: OnnxLowering,
): { qkv: StackedHeads } {
  const { graph } = on;
  const { heads, headDim } = attrs;
  const columns = heads * headDim;
  const parts = on.parts<StackedHeads>(inputs.qkv, 'stacked-heads');
  const rest = parts?.rest ?? { value: on.value(inputs.qkv), width, column: columns };
  const lead = parts?.lead ?? slice(graph, rest.value, 1, 0, columns);
  const { cos, sin } = angles(graph, on.value(inputs.table), on.value(inputs.positions), attrs);
  const x = reshape(graph, lead, [-1, heads, headDim]);
  // the other half of each head: one copy, where taking apart and joining are two
  const order = graph.i64(Array.from({ length: 2 * heads }, (_, i) => i ^ 1));
  const halves = graph.node('Gather', [reshape(graph, lead, [-1, 2 * heads, headDim / 2]), order], {
    axis: 1,
  });
  const other = reshape(graph, halves, [-1, heads, headDim]);
  const turned = add(graph, mul(graph, x, cos), mul(graph, other, sin));
  return { qkv: stackedHeads(graph, reshape(graph, turned, [-1, columns]), rest) };
}
