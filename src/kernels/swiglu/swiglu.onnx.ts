import type { Value } from '../../onnx/graph';
import { columns, columnsOf, type Columns } from '../columns';
import { add, mul, sub } from '../operators';
import type { OnnxLowering, TensorRef } from '../op';

/** up, σ(gate) and gate·σ(gate) */
function gates(gateUp: TensorRef, width: number, on: OnnxLowering): Record<'up' | 'sigma' | 'silu', Value> {
  const [gate, up] = columnsOf(gateUp, [width, width], on) as [Value, Value];
  const sigma = on.graph.node('Sigmoid', [gate]);
  return { up, sigma, silu: mul(on.graph, gate, sigma) };
}

export function swigluOnnx(gateUp: TensorRef, width: number, on: OnnxLowering): { act: Value } {
  const { silu, up } = gates(gateUp, width, on);
  return { act: mul(on.graph, silu, up) };
}

export function swigluBackwardOnnx(
  { gate_up, d_act }: { gate_up: TensorRef; d_act: TensorRef },
  width: number,
  on: OnnxLowering,
): { d_gate_up: Columns; act: Value } {
  const { graph } = on;
  const d = on.value(d_act);
  const { up, sigma, silu } = gates(gate_up, width, on);
  const act = mul(graph, silu, up);
  // up·σ·(1 + gate·(1 − σ)), by what there is already
  const slope = add(graph, mul(graph, sigma, sub(graph, up, act)), act);
  const parts = [mul(graph, d, slope), mul(graph, d, silu)];
  return { d_gate_up: columns(graph, parts, [width, width]), act };
}
