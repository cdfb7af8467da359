/**
 * Running log-sum-exp in a graph, relative to a reference r of each row (its first logit) that is near enough to
 * keep digits: log Σ exp(x − r). A chunk's comes from LogSoftmax, which goes over it once: for any column c,
 * logsoftmax[c] = x[c] − lse. Neither Max nor Exp of a runtime need pass on a NaN, so a row's fault is the sum of its
 * logits times zero, and is added to what depends on it.
 */
import type { Graph, Value } from '../../onnx/graph';
import { add, concat, fault, flatten, mul, reduce, reshape, slice, sub } from '../operators';
import { fixed, type Deferred, type OnnxLowering, type TensorRef } from '../op';

/** Running values of all chunks so far: `state` is [r, log, 0, 0]. */
interface Running extends Deferred {
  readonly kind: 'running-log-sum-exp';
  /** (T, 1) r */
  readonly reference: Value;
  /** (T, 1) log Σ exp(x − r); NaN in rows with a fault */
  readonly log: Value;
}

/** `targets` or `d_logprob` (C) as (T, K), T being the rows of all logits. */
function byRow(cells: Value, logits: TensorRef, on: OnnxLowering): Value {
  const { graph } = on;
  return graph.once(`rows of ${cells.name}`, () => {
    const rows = graph.node('Shape', [on.value(logits)], { start: 0, end: 1 }, 'i64');
    const matrix = graph.node('Reshape', [cells, concat(graph, [rows, graph.i64([-1])], 0)]);
    return graph.shaped(matrix, [logits.shape[0]!, 'K']);
  });
}

/** Columns (T, K) of the targets in a chunk, and which of them lie in it; those that do not are 0. */
function columnsOf(targets: TensorRef, logits: TensorRef, start: number, on: OnnxLowering) {
  const { graph } = on;
  const width = fixed(logits.shape[1], 'width of logits');
  const ids = byRow(on.value(targets), logits, on);
  const column = sub(graph, ids, graph.i32(start));
  const below = graph.node('Less', [column, graph.i32(width)], {}, 'bool');
  const inside = graph.node(
    'And',
    [graph.node('Not', [graph.node('Less', [column, graph.i32(0)], {}, 'bool')]), below],
    {},
    'bool',
  );
  return { inside, column: graph.node('Where', [inside, column, graph.i32(0)], {}, 'i32') };
}

const column0 = (graph: Graph, x: Value): Value => slice(graph, x, 1, 0, 1);

export function logprobOnnx(
  inputs: {
    logits: TensorRef;
    targets: TensorRef;
    state?: TensorRef | undefined;
    picked?: TensorRef | undefined;
  },
  start: number,
  on: OnnxLowering,
): { state: Running; picked: Value; logprob: Deferred; lse: Deferred } {
  const { graph } = on;
  const logits = on.value(inputs.logits);
  const before = inputs.state && running(inputs.state, on);

  const first = column0(graph, logits);
  const reference = before?.reference ?? first;
  // of the chunk: x₀ − r − logsoftmax₀, the differences of logits first
  const relative = column0(graph, graph.node('LogSoftmax', [logits], { axis: 1 }));
  const own = before ? sub(graph, sub(graph, first, reference), relative) : graph.node('Neg', [relative]);
  const sound = add(graph, own, fault(graph, reduce(graph, 'ReduceSum', logits, 1)));
  const log = before
    ? add(graph, before.log, graph.node('Softplus', [sub(graph, sound, before.log)]))
    : sound;

  const { inside, column } = columnsOf(inputs.targets, inputs.logits, start, on);
  const met = sub(graph, graph.node('GatherElements', [logits, column], { axis: 1 }), reference);
  const unmet = inputs.picked ? byRow(on.value(inputs.picked), inputs.logits, on) : graph.f32(0);
  const picked = graph.node('Where', [inside, met, unmet], {}, 'f32');
  on.settle(log, picked);
  const state = (): Value => {
    const nothing = fault(graph, reference);
    return concat(graph, [reference, log, nothing, nothing], 1);
  };
  return {
    state: { kind: 'running-log-sum-exp', reference, log, whole: state },
    picked: flatten(graph, picked),
    logprob: { kind: 'logprob', whole: () => flatten(graph, sub(graph, picked, log)) },
    lse: { kind: 'lse', whole: () => flatten(graph, add(graph, reference, log)) },
  };
}

function running(state: TensorRef, on: OnnxLowering): Pick<Running, 'reference' | 'log'> {
  const parts = on.parts<Running>(state, 'running-log-sum-exp');
  if (parts) return parts;
  const whole = on.value(state);
  return { reference: slice(on.graph, whole, 1, 0, 1), log: slice(on.graph, whole, 1, 1, 2) };
}

export function logprobBackwardOnnx(
  inputs: { logits: TensorRef; targets: TensorRef; lse: TensorRef; d_logprob: TensorRef },
  start: number,
  on: OnnxLowering,
): { d_logits: Value } {
  const { graph } = on;
  const logits = on.value(inputs.logits);
  const lse = graph.once(`column of ${inputs.lse.id}`, () => reshape(graph, on.value(inputs.lse), [0, 1]));
  const d = byRow(on.value(inputs.d_logprob), inputs.logits, on);
  // −Σ_k d, NaN where lse is not a number: Exp may not pass that on
  const weight = graph.once(`weights of ${d.name} under ${lse.name}`, () =>
    add(graph, graph.node('Neg', [reduce(graph, 'ReduceSum', d, 1)]), fault(graph, lse)),
  );
  const spread = mul(graph, graph.node('Exp', [sub(graph, logits, lse)]), weight);
  const { inside, column } = columnsOf(inputs.targets, inputs.logits, start, on);
  const own = graph.node('Where', [inside, d, graph.f32(0)], {}, 'f32');
  return {
    d_logits: graph.node('ScatterElements', [spread, column, own], { axis: 1, reduction: 'add' }),
  };
}
