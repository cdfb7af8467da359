import { describe, expect, it } from 'vitest';
import { kernel } from '../../src/kernels/kernel';
import { op, type TensorRef } from '../../src/kernels/op';
import { philox4x32, philoxUniform, seedWords, type Words4 } from '../../src/kernels/philox';
import philoxCode from '../../src/kernels/sample/philox.wgsl?raw';
import { runOp } from '../support/gpu';

/** Random123's kat_vectors for philox4x32-10: counter, key, result. */
const KNOWN: readonly [Words4, [number, number], Words4][] = [
  [
    [0, 0, 0, 0],
    [0, 0],
    [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
  ],
  [
    [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
    [0xffffffff, 0xffffffff],
    [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
  ],
  [
    [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
    [0xa4093822, 0x299f31d0],
    [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
  ],
];

const philoxKernel = kernel({
  name: 'philox-test',
  code:
    philoxCode +
    `
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) gid: vec3u) {
  if (gid.x >= params.count) { return; }
  words[gid.x] = philox4x32(counters[gid.x], keys[gid.x].xy);
}`,
  bindings: {
    counters: { elem: 'vec4<u32>', access: 'read' },
    keys: { elem: 'vec4<u32>', access: 'read' },
    words: { elem: 'vec4<u32>', access: 'read_write' },
  },
  params: { count: 'u32' },
});

const philoxOp = op({
  name: 'philox-test',
  outputs: ({ counters }: { counters: TensorRef; keys: TensorRef }, _attrs: object) => ({
    words: { shape: counters.shape, dtype: 'u32' },
  }),
  webgpu: ({ inputs, outputs }) => {
    const count = inputs.counters.shape[0] as number;
    return [
      {
        kernel: philoxKernel,
        bind: { ...inputs, ...outputs },
        params: () => ({ count }),
        grid: () => [Math.ceil(count / 64), 1, 1],
      },
    ];
  },
  host: ({ inputs, outputs }, array) => {
    const [counters, keys, words] = [array(inputs.counters), array(inputs.keys), array(outputs.words)];
    for (let i = 0; i < counters.length; i += 4) {
      const counter = [counters[i]!, counters[i + 1]!, counters[i + 2]!, counters[i + 3]!] as const;
      words.set(philox4x32(counter, [keys[i]!, keys[i + 1]!]), i);
    }
  },
});

describe('philox', () => {
  it('gives the known answers on the host', () => {
    for (const [counter, key, words] of KNOWN) expect(philox4x32(counter, key)).toEqual(words);
  });

  it('gives the same words on the GPU', async () => {
    const cases = KNOWN.map(([counter, key]) => [counter, key] as const);
    for (let i = 0; i < 200; i++) {
      const at = (j: number): number => Math.imul(i * 8 + j + 1, 0x9e3779b1) >>> 0;
      cases.push([
        [at(0), at(1), at(2), at(3)],
        [at(4), at(5)],
      ]);
    }
    const shape = [cases.length, 4];
    const { words } = await runOp(
      philoxOp,
      {
        counters: { shape, data: Uint32Array.from(cases.flatMap(([c]) => c)) },
        keys: { shape, data: Uint32Array.from(cases.flatMap(([, k]) => [...k, 0, 0])) },
      },
      {},
    );
    expect(Array.from(words)).toEqual(cases.flatMap(([c, k]) => philox4x32(c, k)));
  });

  it('splits a seed into two words', () => {
    expect(seedWords(5)).toEqual([5, 0]);
    expect(seedWords(2 ** 32 * 7 + 1)).toEqual([1, 7]);
    expect(seedWords(-1)).toEqual([0xffffffff, 0xffffffff]);
    expect(seedWords(2n ** 64n - 2n)).toEqual([0xfffffffe, 0xffffffff]);
    expect(() => seedWords(0.5)).toThrow('whole number');
  });

  it('fills uniformly, in bounds, by seed and stream', () => {
    const fill = philoxUniform(42, 3, 10_001, -2, 6);
    expect(fill.length).toBe(10_001);
    expect(fill.every((x) => x >= -2 && x < 6)).toBe(true);
    const mean = fill.reduce((s, x) => s + x, 0) / fill.length;
    const variance = fill.reduce((s, x) => s + (x - mean) ** 2, 0) / fill.length;
    // five standard errors of a uniform of width 8
    expect(Math.abs(mean - 2)).toBeLessThan((5 * 8) / Math.sqrt(12 * 10_001));
    expect(Math.abs(variance - 64 / 12)).toBeLessThan(0.2);
    expect(philoxUniform(42, 3, 7, -2, 6)).toEqual(fill.slice(0, 7));
    expect(philoxUniform(42, 4, 7, -2, 6)).not.toEqual(fill.slice(0, 7));
    expect(philoxUniform(43, 3, 7, -2, 6)).not.toEqual(fill.slice(0, 7));
  });
});
