import type { Graph, Value } from '../../onnx/graph';
import { columns, type Columns } from '../columns';
import { add, concat, mul, reshape, split } from '../operators';
import type { OnnxLowering, TensorRef } from '../op';
import type { RopeAttrs } from './rope';

interface Angles {
  /** (T, 1, headDim), each of a head's halves alike */
  readonly cos: Value;
  /** the first half negative */
  readonly sin: Value;
}

function anglesOf(graph: Graph, table: Value, positions: Value, { headDim, inverse }: RopeAttrs): Angles {
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

/** Heads (T, width) turned. */
function turn(graph: Graph, part: Value, width: number, headDim: number, { cos, sin }: Angles): Value {
  const heads = width / headDim;
  const x = reshape(graph, part, [-1, heads, headDim]);
  // the other half of each head: one copy, where taking apart and joining are two
  const order = graph.i64(Array.from({ length: 2 * heads }, (_, i) => i ^ 1));
  const halves = graph.node('Gather', [reshape(graph, part, [-1, 2 * heads, headDim / 2]), order], {
    axis: 1,
  });
  const other = reshape(graph, halves, [-1, heads, headDim]);
  return reshape(graph, add(graph, mul(graph, x, cos), mul(graph, other, sin)), [-1, width]);
}

export function ropeOnnx(
  inputs: { qkv: TensorRef; positions: TensorRef; table: TensorRef },
  width: number,
  attrs: RopeAttrs,
  on: OnnxLowering,
): { qkv: Columns } {
  const { graph } = on;
  const { heads, headDim } = attrs;
  const { parts, widths } = apart(inputs.qkv, heads * headDim, width, headDim, on);
  const angles = anglesOf(graph, on.value(inputs.table), on.value(inputs.positions), attrs);
  let column = 0;
  const turned = parts.map((part, i) => {
    const turns = column < heads * headDim;
    column += widths[i]!;
    return turns ? turn(graph, part, widths[i]!, headDim, angles) : part;
  });
  return { qkv: columns(graph, turned, widths) };
}

/** Parts that are whole heads, of which none reaches over the column `end`. */
function apart(
  qkv: TensorRef,
  end: number,
  width: number,
  headDim: number,
  on: OnnxLowering,
): Pick<Columns, 'parts' | 'widths'> {
  const left = on.parts<Columns>(qkv, 'columns');
  if (left) {
    let column = 0;
    const ends = left.widths.map((part) => (column += part));
    if (ends.includes(end) && left.widths.every((part) => part % headDim === 0)) return left;
  }
  const widths = end === width ? [width] : [end, width - end];
  return { parts: split(on.graph, on.value(qkv), 1, widths), widths };
}
