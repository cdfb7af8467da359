import { expect, it } from 'vitest';
import { swiglu } from '../../src/kernels/swiglu/swiglu';
import { expectClose, randomArray } from '../support/compare';
import { runOpOnnx } from '../support/onnx';

it('runs an op of dynamic size on the WebAssembly runtime', async () => {
  const gateUp = randomArray(3 * 10, 1);
  const { act } = await runOpOnnx(
    swiglu,
    { gate_up: { shape: ['T', 10], data: gateUp } },
    {},
    { values: { T: 3 } },
  );
  const expected = Float32Array.from({ length: 15 }, (_, i) => {
    const [row, column] = [Math.floor(i / 5), i % 5];
    const gate = gateUp[10 * row + column]!;
    return (gate / (1 + Math.exp(-gate))) * gateUp[10 * row + 5 + column]!;
  });
  expectClose(act, expected);
  expect(act.length).toBe(15);
});
