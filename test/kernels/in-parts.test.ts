/** Tensors that lowerings to ONNX leave in parts: readers of the parts must see what readers of the whole see. */
import { describe, expect, it } from 'vitest';
import { Trace } from '../../src/engine/trace';
import { attention, attentionBackward } from '../../src/kernels/attention/attention';
import { attentionCached, kvAppend, NO_ROW } from '../../src/kernels/attention/attention-cached';
import { logprob } from '../../src/kernels/logprob/logprob';
import { loraMerge } from '../../src/kernels/lora/lora';
import { matmul } from '../../src/kernels/matmul/matmul';
import type { HostArray, RunValues, TensorRef } from '../../src/kernels/op';
import { rope, ropeTable } from '../../src/kernels/rope/rope';
import { topK } from '../../src/kernels/topk/topk';
import { expectClose, randomArray } from '../support/compare';
import { onnx, type HostTensor } from '../support/onnx';
import { segmentsOf } from '../support/packed';
import { onOnnx } from '../support/runners';

type F32 = Float32Array<ArrayBuffer>;

/** Runs a trace whose inputs are `inputs`, and returns the tensors that `build` names. */
async function runTrace(
  inputs: Readonly<Record<string, HostTensor>>,
  values: RunValues,
  build: (trace: Trace, refs: Readonly<Record<string, TensorRef>>) => Readonly<Record<string, TensorRef>>,
): Promise<Record<string, HostArray>> {
  const trace = new Trace('test');
  const refs = Object.fromEntries(
    Object.entries(inputs).map(([name, { shape, data }]) => [
      name,
      trace.input(name, shape, data instanceof Float32Array ? 'f32' : 'u32'),
    ]),
  );
  const outputs = build(trace, refs);
  for (const [name, ref] of Object.entries(outputs)) trace.output(name, ref);
  const plan = await (await onnx()).compile(trace, { capacity: values });
  try {
    const data = Object.fromEntries(Object.entries(inputs).map(([name, t]) => [name, t.data]));
    return await plan.bind('test', {}).run({ values, inputs: data, read: Object.keys(outputs) });
  } finally {
    plan.dispose();
  }
}

describe('a merged weight', () => {
  for (const [T, K, groups, rank] of [
    [1, 1, [1], 1],
    [5, 7, [4], 2],
    [9, 12, [3, 8], 4],
    [33, 20, [16, 24, 31], 5],
  ] as const) {
    it(`(${groups.join('/')}, ${K}) of rank ${rank}: products as with the whole, added to something or not`, async () => {
      const N = groups.at(-1)!;
      const attrs = { rank, scale: 32 / rank, groups };
      const weight = { shape: [N, K], data: randomArray(N * K, 1) };
      const a = { shape: [groups.length * rank, K], data: randomArray(groups.length * rank * K, 2) };
      const b = { shape: [N, rank], data: randomArray(N * rank, 3) };
      const x = { shape: ['T', K], data: randomArray(T * K, 4) };
      const dy = { shape: ['T', N], data: randomArray(T * N, 5) };
      const { merged } = await onOnnx(loraMerge, { weight, a, b }, attrs);
      const whole = { shape: [N, K], data: merged as F32 };
      const values = { T };
      const got = await runTrace({ weight, a, b, x, dy }, values, (trace, r) => {
        const w = trace.apply(loraMerge, { weight: r.weight!, a: r.a!, b: r.b! }, attrs).merged;
        const forward = (add?: TensorRef) => trace.apply(matmul, { a: r.x!, b: w, add }, { mode: 'NT' }).y;
        const backward = (add?: TensorRef) => trace.apply(matmul, { a: r.dy!, b: w, add }, { mode: 'NN' }).y;
        return { y: forward(), yPlus: forward(r.dy), dx: backward(), dxPlus: backward(r.x) };
      });
      const close = { atol: 1e-5 * attrs.scale * Math.sqrt(N * K * rank), rtol: 1e-4 };
      const plain = async (mode: 'NT' | 'NN', left: HostTensor) =>
        (await onOnnx(matmul, { a: left, b: whole }, { mode }, { values })).y;
      const [y, dx] = [await plain('NT', x), await plain('NN', dy)];
      expectClose(got['y']!, y, close, 'y');
      expectClose(got['dx']!, dx, close, 'dx');
      const plus = (sum: ArrayLike<number>, data: HostArray) => Array.from(sum, (s, i) => s + data[i]!);
      expectClose(got['yPlus']!, plus(y, dy.data), close, 'y + addend');
      expectClose(got['dxPlus']!, plus(dx, x.data), close, 'dx + addend');
    });
  }
});

describe('rotated heads', () => {
  it('attention and its gradient read them as they read the whole', async () => {
    const [heads, kvHeads, headDim] = [4, 2, 6];
    const attrs = { heads, kvHeads, headDim };
    const lengths = [3, 1, 7];
    const T = 11;
    const width = (heads + 2 * kvHeads) * headDim;
    const qkv = { shape: ['T', width], data: randomArray(T * width, 1) };
    const positions = { shape: ['T'], data: Uint32Array.from(lengths.flatMap((n) => [...Array(n).keys()])) };
    const table = { shape: [7, headDim], data: ropeTable({ theta: 100, headDim }, 7) };
    const segments = { shape: ['T', 2], data: segmentsOf(lengths) };
    const dOut = { shape: ['T', heads * headDim], data: randomArray(T * heads * headDim, 2) };
    const turn = { heads: heads + kvHeads, headDim, inverse: false };
    const values = { T };
    const got = await runTrace({ qkv, positions, table, segments, dOut }, values, (trace, r) => {
      const angles = { positions: r.positions!, table: r.table! };
      const turned = trace.apply(rope, { qkv: r.qkv!, ...angles }, turn).qkv;
      const f = trace.apply(attention, { qkv: turned, segments: r.segments! }, attrs);
      const d = trace.apply(
        attentionBackward,
        { qkv: turned, segments: r.segments!, out: f.out, lse: f.lse, d_out: r.dOut! },
        attrs,
      ).d_qkv;
      const back = trace.apply(rope, { qkv: d, ...angles }, { ...turn, inverse: true }).qkv;
      return { turned, out: f.out, lse: f.lse, back };
    });
    const turned = (await onOnnx(rope, { qkv, positions, table }, turn, { values })).qkv as F32;
    expect(got['turned']).toEqual(turned);
    const whole = { shape: ['T', width], data: turned };
    const f = await onOnnx(attention, { qkv: whole, segments }, attrs, { values });
    expect(got['out']).toEqual(f.out);
    expect(got['lse']).toEqual(f.lse);
    const out = { shape: ['T', heads * headDim], data: f.out };
    const lse = { shape: ['T', heads], data: f.lse };
    const d = await onOnnx(attentionBackward, { qkv: whole, segments, out, lse, d_out: dOut }, attrs, {
      values,
    });
    const dQkv = { shape: ['T', width], data: d.d_qkv };
    const back = await onOnnx(rope, { qkv: dQkv, positions, table }, { ...turn, inverse: true }, { values });
    expectClose(got['back']!, back.qkv, { atol: 1e-6, rtol: 1e-5 });
  });
});

describe('a cache with new rows', () => {
  const [heads, kvHeads, headDim, R] = [4, 2, 6, 40];
  const attrs = { heads, kvHeads, headDim };
  const width = (heads + 2 * kvHeads) * headDim;
  const kv = kvHeads * headDim;
  for (const [what, rows, slots] of [
    ['one sample', [9], [0, 9, 9, 1]],
    ['samples that share a prefix', [12, 17, 22], [0, 9, 11, 2, 0, 9, 16, 2, 0, 9, 21, 2]],
    ['one that has ended', [12, NO_ROW, 22], [0, 9, 11, 2, 0, 9, 16, 0, 0, 9, 21, 2]],
    ['only one that has ended', [NO_ROW], [0, 9, 16, 0]],
    ['prefixes of their own, and none', [12, 30, 39], [1, 4, 11, 2, 15, 9, 28, 3, 0, 0, 35, 5]],
    ['new rows in the middle of what others read', [3, 33, 20], [0, 9, 11, 2, 1, 7, 31, 5, 2, 6, 19, 4]],
  ] as const) {
    it(`${what}: attention as over the whole`, async () => {
      const B = rows.length;
      const values = { B };
      const qkv = { shape: ['B', width], data: randomArray(B * width, 1) };
      const cache_k = { shape: [R, kv], data: randomArray(R * kv, 2) };
      const cache_v = { shape: [R, kv], data: randomArray(R * kv, 3) };
      // what no sample reads may hold anything, and so may the rows that are new
      const read = new Set<number>();
      for (let b = 0; b < B; b++) {
        const [prefix, prefixLength, own, ownLength] = slots.slice(4 * b, 4 * b + 4) as [
          number,
          number,
          number,
          number,
        ];
        if (ownLength === 0) continue;
        for (let i = 0; i < prefixLength; i++) read.add(prefix + i);
        for (let i = 0; i < ownLength; i++) read.add(own + i);
      }
      for (const row of rows) read.delete(row);
      const shared = slots.every((x, i) => i % 4 > 1 || x === slots[i % 4]);
      for (let r = 0; r < R; r++) {
        if (read.has(r) || !shared || what.startsWith('only')) continue;
        cache_k.data.fill(NaN, r * kv, (r + 1) * kv);
        cache_v.data.fill(NaN, r * kv, (r + 1) * kv);
      }
      const inputs = {
        qkv,
        cache_k,
        cache_v,
        rows: { shape: ['B'], data: Uint32Array.from(rows) },
        slots: { shape: ['B', 4], data: Uint32Array.from(slots) },
      };
      const got = await runTrace(inputs, values, (trace, r) => {
        const { qkv, cache_k, cache_v } = r as Record<'qkv' | 'cache_k' | 'cache_v', TensorRef>;
        const kept = trace.apply(kvAppend, { qkv, rows: r.rows!, cache_k, cache_v }, attrs);
        const { out } = trace.apply(attentionCached, { qkv, ...kept, slots: r.slots! }, attrs);
        return { out };
      });
      const { slots: at, rows: to, ...rest } = inputs;
      const kept = await onOnnx(kvAppend, { ...rest, rows: to }, attrs, { values });
      const whole = {
        cache_k: { shape: [R, kv], data: kept.cache_k },
        cache_v: { shape: [R, kv], data: kept.cache_v },
      };
      const expected = await onOnnx(attentionCached, { qkv, ...whole, slots: at }, attrs, { values });
      expect(expected.out.every(Number.isFinite)).toBe(true);
      expectClose(got['out']!, expected.out, { atol: 1e-6, rtol: 1e-5 });
    });
  }
});

describe('a vocabulary in chunks', () => {
  it('running values of earlier chunks are as good as written out', async () => {
    const [T, K, V, k] = [5, 2, 30, 12];
    const tile = 11;
    const values = { T, C: T * K, R: T * k };
    const targets = { shape: ['C'], data: Uint32Array.from({ length: T * K }, (_, i) => (i * 7) % V) };
    const chunks = [0, 1, 2].map((c) => {
      const columns = Math.min(tile, V - c * tile);
      return { shape: ['T', columns], data: randomArray(T * columns, c + 1, 5) };
    });
    const inputs = { targets, ...Object.fromEntries(chunks.map((chunk, c) => [`chunk${c}`, chunk])) };
    const got = await runTrace(inputs, values, (trace, r) => {
      let running: { state?: TensorRef; picked?: TensorRef; logprob?: TensorRef; lse?: TensorRef } = {};
      let lists: { ids?: TensorRef; best?: TensorRef } = {};
      chunks.forEach((_, c) => {
        const logits = r[`chunk${c}`]!;
        const { state, picked } = running;
        running = trace.apply(logprob, { logits, targets: r.targets!, state, picked }, { start: c * tile });
        lists = trace.apply(topK, { logits, ids: lists.ids, best: lists.best }, { start: c * tile });
      });
      return { logprob: running.logprob!, lse: running.lse!, ids: lists.ids!, best: lists.best! };
    });
    let running: Partial<Record<'state' | 'picked' | 'logprob' | 'lse', HostArray>> = {};
    let lists: Partial<Record<'ids' | 'best', HostArray>> = {};
    for (const [c, logits] of chunks.entries()) {
      const before = running.state && {
        state: { shape: ['T', 4], data: running.state },
        picked: { shape: ['C'], data: running.picked! },
      };
      const start = c * tile;
      running = await onOnnx(logprob, { logits, targets, ...before }, { start }, { values });
      const listed = lists.ids && {
        ids: { shape: ['R'], data: lists.ids },
        best: { shape: ['R'], data: lists.best! },
      };
      lists = await onOnnx(topK, { logits, ...listed }, { start }, { values });
    }
    expect(got).toEqual({
      logprob: running.logprob,
      lse: running.lse,
      ids: lists.ids,
      best: lists.best,
    });
  });
});
