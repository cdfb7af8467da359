/** What all losses share in a graph; mirrors `loss-map.wgsl`. */
import type { Graph, Value } from '../../onnx/graph';
import { add, fault } from '../operators';
import { sizeOf, type OnnxLowering } from '../op';
import type { LossTensors } from './loss-map';

/** exp of more exceeds f32. */
const LARGEST_EXPONENT = 88.72283;

/** What the map of a loss is written with. All values are (C), or scalars. */
export class LossGraph {
  constructor(
    readonly graph: Graph,
    readonly lp: Value,
    /** an input of the loss */
    readonly input: (name: string) => Value,
    /** a setting of the loss */
    readonly setting: (name: string) => Value,
  ) {}

  number(x: number): Value {
    return this.graph.f32(x);
  }

  add = (a: Value, b: Value): Value => this.graph.node('Add', [a, b]);
  sub = (a: Value, b: Value): Value => this.graph.node('Sub', [a, b]);
  mul = (a: Value, b: Value): Value => this.graph.node('Mul', [a, b]);
  neg = (a: Value): Value => this.graph.node('Neg', [a]);
  min = (a: Value, b: Value): Value => this.graph.node('Min', [a, b]);
  max = (a: Value, b: Value): Value => this.graph.node('Max', [a, b]);

  is(a: Value, relation: 'Equal' | 'Less' | 'Greater' | 'LessOrEqual' | 'GreaterOrEqual', b: Value): Value {
    return this.graph.node(relation, [a, b], {}, 'bool');
  }

  and = (a: Value, b: Value): Value => this.graph.node('And', [a, b], {}, 'bool');
  or = (a: Value, b: Value): Value => this.graph.node('Or', [a, b], {}, 'bool');
  not = (a: Value): Value => this.graph.node('Not', [a], {}, 'bool');

  select(condition: Value, yes: Value, no: Value): Value {
    return this.graph.node('Where', [condition, yes, no], {}, yes.type);
  }

  clamp = (x: Value, low: Value, high: Value): Value => this.min(this.max(x, low), high);

  /** Whether exp(log_ratio) exceeds f32. */
  exceeds(logRatio: Value): Value {
    return this.is(logRatio, 'Greater', this.number(LARGEST_EXPONENT));
  }

  /** exp, the largest f32 at most, and exactly 1 at 0, where clipping bounds may lie. */
  ratioOf(logRatio: Value): Value {
    const power = this.graph.node('Exp', [this.min(logRatio, this.number(LARGEST_EXPONENT))]);
    return this.select(this.is(logRatio, 'Equal', this.number(0)), this.number(1), power);
  }
}

/** A loss's term of the sum, the sum's derivative by the log-probability, and where a ratio beyond f32 spoils both. */
export interface LossTerm {
  readonly loss: Value;
  readonly d: Value;
  readonly overflow?: Value;
}

export function lossMapOnnx(
  term: (l: LossGraph) => LossTerm,
  inputs: LossTensors,
  on: OnnxLowering,
): { loss: Value; d_logprob: Value } {
  const { graph } = on;
  const lp = on.value(inputs.logprob);
  const l = new LossGraph(
    graph,
    lp,
    (name) => on.value(inputs[name]!),
    (name) => on.scalar(name, (v) => sizeOf(name, v)),
  );
  const { loss, d, overflow } = term(l);
  // min and max of a runtime need not pass on a NaN
  let bad = add(graph, fault(graph, lp), add(graph, fault(graph, loss), fault(graph, d)));
  if (overflow) bad = l.select(overflow, l.number(NaN), bad);
  return { loss: add(graph, loss, bad), d_logprob: add(graph, d, bad) };
}
