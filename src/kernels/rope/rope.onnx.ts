import type { Graph, Value } from '../../onnx/graph';
import { columns, type Columns } from '../columns';
import { add, concat, mul, reshape, split } from '../operators';
import type { OnnxLowering, TensorRef } from '../op';
import type { RopeAttrs } from './rope';

type RopeInputs = Record<'qkv' | 'positions' | 'table', TensorRef>;

/** cos and sin of the rows' positions, (T, width) each. */
interface Angles {
  readonly cos: Value;
  /** negative in the first half of each head, or in the second to turn back */
  readonly sin: Value;
}

/** Angles for heads side by side: written out, since operators are slow at repeating short rows. */
function anglesOf(
  inputs: RopeInputs,
  width: number,
  { headDim, inverse }: RopeAttrs,
  on: OnnxLowering,
): Angles {
  const { graph } = on;
  const rows = inputs.positions.shape[0]!;
  const [table, positions] = [on.value(inputs.table), on.value(inputs.positions)];
  const once = <T>(what: string, make: () => T): T =>
    graph.once(`rope ${what} by ${table.name} at ${positions.name}`, make);
  const [c, s] = once('halves', () =>
    split(graph, graph.node('Gather', [table, positions], { axis: 0 }), 1, [headDim / 2, headDim / 2]),
  ) as [Value, Value];
  const spread = (parts: readonly Value[]): Value =>
    graph.shaped(graph.node('Tile', [concat(graph, parts, 1), graph.i64([1, width / headDim])]), [
      rows,
      width,
    ]);
  const minus = once('minus', () => graph.node('Neg', [s]));
  return {
    cos: once(`cos ${width}`, () => spread([c, c])),
    sin: once(`sin ${width} ${inverse}`, () => spread(inverse ? [s, minus] : [minus, s])),
  };
}

/** Heads (T, width) turned. */
function turn(graph: Graph, part: Value, width: number, headDim: number, { cos, sin }: Angles): Value {
  // the other half of each head: one copy, where taking apart and joining are two
  const halves = (2 * width) / headDim;
  const order = graph.i64(Array.from({ length: halves }, (_, i) => i ^ 1));
  const swapped = graph.node('Gather', [reshape(graph, part, [0, halves, headDim / 2]), order], {
    axis: 1,
  });
  const other = reshape(graph, swapped, [0, width]);
  return add(graph, mul(graph, part, cos), mul(graph, other, sin));
}

export function ropeOnnx(
  inputs: RopeInputs,
  width: number,
  attrs: RopeAttrs,
  on: OnnxLowering,
): { qkv: Columns } {
  const { graph } = on;
  const { heads, headDim } = attrs;
  const { parts, widths } = apart(inputs.qkv, heads * headDim, width, headDim, on);
  let column = 0;
  const turned = parts.map((part, i) => {
    const turns = column < heads * headDim;
    column += widths[i]!;
    if (!turns) return part;
    return turn(graph, part, widths[i]!, headDim, anglesOf(inputs, widths[i]!, attrs, on));
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
