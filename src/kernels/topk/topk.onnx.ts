import type { Value } from '../../onnx/graph';
import { add, cast, concat, flatten, reshape } from '../operators';
import { fixed, sizeOf, type Deferred, type OnnxLowering, type RunValues, type TensorRef } from '../op';

/** The lists so far, (T, min(k, ids so far)) each. */
interface Lists extends Deferred {
  readonly kind: 'best-lists';
  readonly ids: Value;
  readonly best: Value;
}

export function topKOnnx(
  inputs: { logits: TensorRef; ids?: TensorRef | undefined; best?: TensorRef | undefined },
  start: number,
  on: OnnxLowering,
): { ids: Lists; best: Lists } {
  const { graph } = on;
  const rows = inputs.logits.shape[0]!;
  const width = fixed(inputs.logits.shape[1], 'width of logits');
  const k = (v: RunValues): number => sizeOf('R', v) / sizeOf(rows, v);
  /** how many of `ids` ids a list has */
  const entries = (ids: number): Value =>
    reshape(
      graph,
      on.scalar(`topk of ${ids}`, (v) => Math.min(k(v), ids), 'i64'),
      [1],
    );
  const largest = (values: Value, count: Value): [Value, Value] => {
    const options = { axis: 1, largest: 1, sorted: 1 };
    return graph.split('TopK', [values, count], 2, options, ['f32', 'i64']) as [Value, Value];
  };

  const own = largest(on.value(inputs.logits), entries(width));
  let best = own[0];
  let ids = add(graph, cast(graph, own[1], 'i32'), graph.i32(start));
  if (inputs.ids && inputs.best) {
    const before = listsOf(inputs.ids, inputs.best, entries(start), k, on);
    // those before have the smaller ids: in front, they come first among equals
    const all = concat(graph, [before.ids, ids], 1);
    let places: Value;
    [best, places] = largest(concat(graph, [before.best, best], 1), entries(start + width));
    ids = graph.node('GatherElements', [all, places], { axis: 1 });
  }
  on.settle(ids, best);
  /** (T·k): what a list lacks of k entries means nothing */
  const filled = (list: Value): Value => {
    const lacking = on.scalar(
      `topk lacks of ${start + width}`,
      (v) => Math.max(0, k(v) - start - width),
      'i64',
    );
    const pads = concat(graph, [graph.i64([0, 0, 0]), reshape(graph, lacking, [1])], 0);
    return flatten(graph, graph.node('Pad', [list, pads]));
  };
  const lists = (whole: Value): Lists => ({ kind: 'best-lists', ids, best, whole: () => filled(whole) });
  return { ids: lists(ids), best: lists(best) };
}

function listsOf(
  ids: TensorRef,
  best: TensorRef,
  entries: Value,
  k: (v: RunValues) => number,
  on: OnnxLowering,
): Pick<Lists, 'ids' | 'best'> {
  const parts = on.parts<Lists>(ids, 'best-lists');
  if (parts) return parts;
  const { graph } = on;
  const cut = (ref: TensorRef): Value => {
    const size = reshape(graph, on.scalar('topk', k, 'i64'), [1]);
    const list = graph.node('Reshape', [on.value(ref), concat(graph, [graph.i64([-1]), size], 0)]);
    return graph.node('Slice', [list, graph.i64([0]), entries, graph.i64([1])]);
  };
  return { ids: cut(ids), best: cut(best) };
}
