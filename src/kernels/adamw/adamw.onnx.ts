import type { Graph, Value } from '../../onnx/graph';
import { add, div, fault, flatten, mul, reduce, reshape, sub } from '../operators';
import { sizeOf, type OnnxLowering, type RunValues, type TensorRef } from '../op';
import type { AdamwValues } from './adamw';

/** Elements per partial sum of squares, against rounding. */
const BLOCK = 64;

export function gradNormOnnx(gradients: TensorRef, on: OnnxLowering): { norm: Value } {
  const { graph } = on;
  const P = gradients.shape[0]!;
  let grads = on.value(gradients);
  if (typeof P !== 'number' || P % BLOCK !== 0) {
    const short = (v: RunValues): number => -sizeOf(P, v) & (BLOCK - 1);
    const pads = [graph.i64([0]), reshape(graph, on.scalar('grad-norm.pad', short, 'i64'), [1])];
    grads = graph.node('Pad', [grads, graph.node('Concat', pads, { axis: 0 })]);
  }
  const partial = reduce(graph, 'ReduceSumSquare', reshape(graph, grads, [-1, BLOCK]), 1);
  const norm = flatten(graph, graph.node('Sqrt', [reduce(graph, 'ReduceSum', partial, 0)]));
  // NaN where it would be infinite
  return { norm: add(graph, norm, fault(graph, norm)) };
}

/**
 * As few passes over the vectors as the formula allows: the scalars are joined beforehand.
 *   m = β1·m + ((1 − β1)·s)·g;  v = β2·v + (√(1 − β2)·s·g)²;  p = decay·p − (lr·c/bias1)·m / (√v + eps·c)
 * with s = min(1, clip / (norm + 1e-6)) and c = √bias2. With a norm that is not finite g counts as 0 and the scalars
 * are those that change nothing.
 */
export function adamwOnnx(
  inputs: Record<'params' | 'grads' | 'm' | 'v' | 'norm', TensorRef>,
  on: OnnxLowering,
): Record<'params' | 'grads' | 'm' | 'v', Value> {
  const { graph } = on;
  const [params, grads, m, v] = [
    on.value(inputs.params),
    on.value(inputs.grads),
    on.value(inputs.m),
    on.value(inputs.v),
  ];
  const norm = on.value(inputs.norm);
  const sound = graph.node('Equal', [fault(graph, norm), graph.f32(0)], {}, 'bool');
  const either = (yes: Value, no: Value): Value => graph.node('Where', [sound, yes, no], {}, 'f32');
  const scalar = (name: string, of: (value: (name: keyof AdamwValues) => number) => number): Value =>
    on.scalar(`adamw.${name}`, (run) => of((field) => sizeOf(field, run)));
  const [one, zero] = [graph.f32(1), graph.f32(0)];

  const clip = scalar('clip', (x) => x('clip'));
  const ratio = graph.node('Min', [one, div(graph, clip, add(graph, norm, graph.f32(1e-6)))]);
  const unclipped = graph.node('Equal', [clip, zero], {}, 'bool');
  const scale = graph.node('Where', [unclipped, one, ratio], {}, 'f32');
  const beta1 = either(
    scalar('beta1', (x) => x('beta1')),
    one,
  );
  const beta2 = either(
    scalar('beta2', (x) => x('beta2')),
    one,
  );
  const share1 = mul(
    graph,
    scalar('share1', (x) => 1 - x('beta1')),
    scale,
  );
  const share2 = mul(
    graph,
    scalar('share2', (x) => Math.sqrt(1 - x('beta2'))),
    scale,
  );
  const decay = either(
    scalar('decay', (x) => 1 - x('lr') * x('weight_decay')),
    one,
  );
  const step = either(
    scalar('step', (x) => (x('lr') * Math.sqrt(x('bias2'))) / x('bias1')),
    zero,
  );
  const eps = either(
    scalar('eps', (x) => x('eps') * Math.sqrt(x('bias2'))),
    one,
  );

  const g = either(grads, zero);
  const [share1g, share2g] = [mul(graph, g, either(share1, zero)), mul(graph, g, either(share2, zero))];
  const m1 = add(graph, mul(graph, m, beta1), share1g);
  const v1 = add(graph, mul(graph, v, beta2), mul(graph, share2g, share2g));
  const update = div(graph, m1, add(graph, graph.node('Sqrt', [v1]), eps));
  return {
    params: sub(graph, mul(graph, params, decay), mul(graph, update, step)),
    grads: cleared(graph, grads),
    m: m1,
    v: v1,
  };
}

const cleared = (graph: Graph, x: Value): Value =>
  graph.node('Expand', [graph.f32([0]), graph.node('Shape', [x], {}, 'i64')]);
