import { describe, it } from 'vitest';
import { rmsnorm, rmsnormBackward } from '../../src/kernels/rmsnorm/rmsnorm';
import fixture from '../fixtures/rmsnorm.json?raw';
import { expectClose, randomArray } from '../support/compare';
import { unpack } from '../support/packed';
import { RUNNERS } from '../support/runners';

interface Case {
  rows: number;
  width: number;
  eps: number;
  y: string;
  rstd: string;
  dx: string;
}

describe('rmsnorm', () => {
  for (const c of JSON.parse(fixture) as Case[]) {
    for (const { name, run } of RUNNERS) {
      it(`${c.rows} × ${c.width} on ${name}: forward and backward match PyTorch`, async () => {
        const { rows, width, eps } = c;
        const options = { values: { T: rows }, capacity: { T: rows + 2 } };
        const x = { shape: ['T', width], data: randomArray(rows * width, 1, 2) };
        const weight = { shape: [width], data: randomArray(width, 2) };
        const dy = { shape: ['T', width], data: randomArray(rows * width, 3) };
        const residual = randomArray(rows * width, 4);
        const f = await run(rmsnorm, { x, weight }, { eps }, options);
        expectClose(f.y, unpack(c.y), {}, 'y');
        expectClose(f.rstd, unpack(c.rstd), {}, 'rstd');

        const rstd = { shape: ['T'], data: unpack(c.rstd) };
        const saved = { x, weight, rstd, dy };
        const dx = unpack(c.dx);
        const tolerance = { atol: 1e-4, rtol: 1e-3 };
        const added = await run(
          rmsnormBackward,
          { ...saved, d_residual: { shape: ['T', width], data: residual } },
          {},
          options,
        );
        expectClose(added.dx, dx, tolerance, 'dx on the residual stream');
        const alone = await run(rmsnormBackward, saved, {}, options);
        expectClose(
          alone.dx,
          dx.map((d, i) => d - residual[i]!),
          tolerance,
          'dx alone',
        );
      });
    }
  }
});
