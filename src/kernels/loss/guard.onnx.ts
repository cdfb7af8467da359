import type { Value } from '../../onnx/graph';
import { cast, concat, fault } from '../operators';
import { sizeOf, type OnnxLowering, type RunValues, type TensorRef } from '../op';

export function lossFaultOnnx(
  inputs: { loss: TensorRef; fault: TensorRef },
  on: OnnxLowering,
): { fault: Value } {
  const { graph } = on;
  const sum = graph.node('ReduceSum', [fault(graph, on.value(inputs.loss))], { keepdims: 0 });
  const sound = graph.node('Equal', [sum, graph.f32(0)], {}, 'bool');
  return { fault: graph.node('Where', [sound, on.value(inputs.fault), graph.i32([1])], {}, 'i32') };
}

/**
 * The result is a row of three stretches, of which one has all the elements and two have none: copies, where a
 * selection would read every candidate. They are cut by lengths that the fault decides.
 */
export function gradientGuardOnnx(
  inputs: { grads: TensorRef; saved: TensorRef; fault: TensorRef },
  on: OnnxLowering,
): { grads: Value } {
  const { graph } = on;
  const grads = on.value(inputs.grads);
  const length = graph.node('Shape', [grads], {}, 'i64');
  const run = (name: string, of: (v: RunValues) => number): Value => on.scalar(name, of, 'i64');
  const hit = graph.node('Min', [
    cast(graph, on.value(inputs.fault), 'i64'),
    run('guard.last', (v) => sizeOf('last', v)),
  ]);
  const has = run('guard.saved', (v) => sizeOf('has_saved', v));
  const taken = graph.node('Mul', [length, hit]);
  const restored = graph.node('Mul', [taken, has]);
  const kept = graph.node('Sub', [length, taken]);
  const cleared = graph.node('Sub', [taken, restored]);
  const upTo = (x: Value, end: Value): Value => graph.node('Slice', [x, graph.i64([0]), end]);
  const zeros = graph.node('Expand', [graph.f32([0]), cleared]);
  return { grads: concat(graph, [upTo(grads, kept), upTo(on.value(inputs.saved), restored), zeros], 0) };
}
