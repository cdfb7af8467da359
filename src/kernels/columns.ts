/** Tensors of a graph that lie side by side and are seldom wanted as one. */
import type { Graph, Value } from '../onnx/graph';
import type { Deferred, OnnxLowering, TensorRef } from './op';
import { concat, split } from './operators';

/** A matrix (T, Σ widths) left as its columns' parts, (T, width) each. */
export interface Columns extends Deferred {
  readonly kind: 'columns';
  readonly parts: readonly Value[];
  readonly widths: readonly number[];
}

export const columns = (graph: Graph, parts: readonly Value[], widths: readonly number[]): Columns => ({
  kind: 'columns',
  parts,
  widths,
  whole: () => concat(graph, parts, 1),
});

/** The parts of a matrix that have these widths, as it was left or cut. */
export function columnsOf(ref: TensorRef, widths: readonly number[], on: OnnxLowering): readonly Value[] {
  const left = on.parts<Columns>(ref, 'columns');
  if (left && left.widths.join() === widths.join()) return left.parts;
  const whole = on.value(ref);
  return on.graph.once(`columns ${widths.join()} of ${whole.name}`, () => split(on.graph, whole, 1, widths));
}
