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

/** What the host computes of the run's values, in f64. */
const SCALARS = {
  clip: (x) => x('clip'),
  beta1: (x) => x('beta1'),
  beta2: (x) => x('beta2'),
  share1: (x) => 1 - x('beta1'),
  share2: (x) => Math.sqrt(1 - x('beta2')),
  decay: (x) => 1 - x('lr') * x('weight_decay'),
  step: (x) => (x('lr') * Math.sqrt(x('bias2'))) / x('bias1'),
  eps: (x) => x('eps') * Math.sqrt(x('bias2')),
} satisfies Record<string, (x: (name: keyof AdamwValues) => number) => number>;

function scalars(on: OnnxLowering): Record<keyof typeof SCALARS, Value> {
  const entries = Object.entries(SCALARS).map(([name, of]) => [
    name,
    on.scalar(`adamw.${name}`, (run) => of((field) => sizeOf(field, run))),
  ]);
  return Object.fromEntries(entries) as Record<keyof typeof SCALARS, Value>;
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
  const [one, zero] = [graph.f32(1), graph.f32(0)];

  const run = scalars(on);
  const ratio = div(graph, run.clip, add(graph, norm, graph.f32(1e-6)));
  const off = graph.node('Equal', [run.clip, zero], {}, 'bool');
  const scale = graph.node('Where', [off, one, graph.node('Min', [one, ratio])], {}, 'f32');
  const [beta1, beta2] = [either(run.beta1, one), either(run.beta2, one)];
  const share1 = either(mul(graph, run.share1, scale), zero);
  const share2 = either(mul(graph, run.share2, scale), zero);
  const [decay, step, eps] = [either(run.decay, one), either(run.step, zero), either(run.eps, one)];

  const g = either(grads, zero);
  const root = mul(graph, g, share2);
  const m1 = add(graph, mul(graph, m, beta1), mul(graph, g, share1));
  const v1 = add(graph, mul(graph, v, beta2), mul(graph, root, root));
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
