import { describe, it } from 'vitest';
import { swiglu, swigluBackward } from '../../src/kernels/swiglu/swiglu';
import { expectClose, randomArray } from '../support/compare';
import { DEVICES } from '../support/runners';

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

for (const { name, run } of DEVICES) {
  describe(`swiglu on ${name}`, () => {
    for (const [rows, width] of [
      [1, 1],
      [1, 4],
      [7, 9],
      [3, 20],
      [65, 64],
    ] as const) {
      it(`${rows} × ${width}: forward and backward match f64`, async () => {
        const gateUp = randomArray(rows * width * 2, 1, 3);
        const dAct = randomArray(rows * width, 2);
        const act = new Float64Array(rows * width);
        const dGateUp = new Float64Array(rows * width * 2);
        for (let r = 0; r < rows; r++) {
          for (let c = 0; c < width; c++) {
            const g = gateUp[r * 2 * width + c]!;
            const u = gateUp[r * 2 * width + width + c]!;
            const d = dAct[r * width + c]!;
            const s = sigmoid(g);
            act[r * width + c] = g * s * u;
            dGateUp[r * 2 * width + c] = d * u * s * (1 + g * (1 - s));
            dGateUp[r * 2 * width + width + c] = d * g * s;
          }
        }
        const values = { T: rows };
        const capacity = { T: rows + 5 };
        const input = { shape: ['T', 2 * width], data: gateUp };
        const f = await run(swiglu, { gate_up: input }, {}, { values, capacity });
        expectClose(f.act, act);
        const b = await run(
          swigluBackward,
          { gate_up: input, d_act: { shape: ['T', width], data: dAct } },
          {},
          { values, capacity },
        );
        expectClose(b.d_gate_up, dGateUp, { atol: 1e-4, rtol: 1e-3 });
        expectClose(b.act, act, {}, 'activation made again');
      });
    }
  });
}
