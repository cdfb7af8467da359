import type { Graph, Value } from '../../onnx/graph';
import { add, concat, mul, split, sub } from '../operators';
import type { OnnxLowering, TensorRef } from '../op';

interface Gates {
  readonly gate: Value;
  readonly up: Value;
  /** σ(gate) */
  readonly sigma: Value;
  /** gate·σ(gate) */
  readonly silu: Value;
}

function gates(graph: Graph, gateUp: Value, width: number): Gates {
  const [gate, up] = split(graph, gateUp, 1, [width, width]) as [Value, Value];
  const sigma = graph.node('Sigmoid', [gate]);
  return { gate, up, sigma, silu: mul(graph, gate, sigma) };
}

export function swigluOnnx(gateUp: TensorRef, width: number, on: OnnxLowering): { act: Value } {
  const { silu, up } = gates(on.graph, on.value(gateUp), width);
  return { act: mul(on.graph, silu, up) };
}

export function swigluBackwardOnnx(
  { gate_up, d_act }: { gate_up: TensorRef; d_act: TensorRef },
  width: number,
  on: OnnxLowering,
): { d_gate_up: Value; act: Value } {
  const { graph } = on;
  const d = on.value(d_act);
  const { up, sigma, silu } = gates(graph, on.value(gate_up), width);
  const act = mul(graph, silu, up);
  // up·σ·(1 + gate·(1 − σ)), by what there is already
  const slope = add(graph, mul(graph, sigma, sub(graph, up, act)), act);
  return { d_gate_up: concat(graph, [mul(graph, d, slope), mul(graph, d, silu)], 1), act };
}
