import { describe, expect, it } from 'vitest';
import { rope, ropeTable } from '../../src/kernels/rope/rope';
import fixture from '../fixtures/rope.json?raw';
import { expectClose, randomArray } from '../support/compare';
import { unpack } from '../support/packed';
import { DEVICES } from '../support/runners';

interface Case {
  heads: number;
  kv: number;
  dim: number;
  positions: number[];
  theta: number;
  scaling: { rope_type: string } | null;
  /** (positions, dim): cos | sin of each row's position */
  table: string;
  y: string;
}

for (const { name, run: runOp } of DEVICES) {
  describe(`rope on ${name}`, () => {
    for (const c of JSON.parse(fixture) as Case[]) {
      const { heads, kv, dim, theta, scaling } = c;
      const rows = c.positions.length;
      it(`${heads}+${kv} heads of ${dim}, ${scaling?.rope_type ?? 'default'}: matches transformers and turns back`, async () => {
        const count = Math.max(...c.positions) + 1;
        const table = ropeTable({ theta, headDim: dim, scaling }, count);
        const used = c.positions.flatMap((p) => [...table.subarray(p * dim, (p + 1) * dim)]);
        // far positions: one unit in the last place of a frequency moves an angle of 4,000 by 2.4e-4
        expectClose(used, unpack(c.table), { atol: Math.max(1e-6, count * 1.2e-7), rtol: 0 }, 'table');

        const width = (heads + 2 * kv) * dim;
        const x = randomArray(rows * width, 5);
        const run = (data: Float32Array<ArrayBuffer>, inverse: boolean) =>
          runOp(
            rope,
            {
              qkv: { shape: ['T', width], data },
              positions: { shape: ['T'], data: Uint32Array.from(c.positions) },
              table: { shape: [count, dim], data: table },
            },
            { heads: heads + kv, headDim: dim, inverse },
            { values: { T: rows }, capacity: { T: rows + 1 } },
          );
        const { qkv } = await run(x, false);
        expectClose(qkv, unpack(c.y), { atol: Math.max(1e-5, count * 5e-7) }, 'turned');
        if (scaling?.rope_type !== 'yarn') {
          const back = await run(qkv as Float32Array<ArrayBuffer>, true);
          expectClose(back.qkv, x, {}, 'turned back');
        }
      });
    }

    it('turns back by the transpose, whatever the table holds', async () => {
      const [rows, width] = [3, 24];
      const data = randomArray(rows * width, 1);
      const other = randomArray(rows * width, 2);
      const run = async (x: Float32Array<ArrayBuffer>, inverse: boolean) => {
        const { qkv } = await runOp(
          rope,
          {
            qkv: { shape: ['T', width], data: x },
            positions: { shape: ['T'], data: Uint32Array.of(2, 0, 1) },
            table: { shape: [3, 8], data: randomArray(24, 3) },
          },
          { heads: 2, headDim: 8, inverse },
          { values: { T: rows } },
        );
        return qkv;
      };
      const dot = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
        Array.from(a).reduce((sum, v, i) => sum + v * b[i]!, 0);
      expect(dot(await run(data, false), other)).toBeCloseTo(dot(data, await run(other, true)), 4);
    });
  });
}

describe('ropeTable', () => {
  it('names a scaling it does not know, and a missing field', () => {
    const config = { theta: 10000, headDim: 8 };
    expect(() => ropeTable({ ...config, scaling: { rope_type: 'longrope' } }, 4)).toThrow(/'longrope'/);
    expect(() => ropeTable({ ...config, scaling: { type: 'linear' } }, 4)).toThrow(
      /'linear' needs .* factor/,
    );
    expect(() => ropeTable({ ...config, scaling: { partial_rotary_factor: 0.5 } }, 4)).toThrow(
      /partial_rotary/,
    );
  });
});
