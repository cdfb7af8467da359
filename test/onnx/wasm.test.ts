/** What only the WebAssembly runtime does: breaking down, and beginning again. */
import { describe, expect, it } from 'vitest';
import { DeviceLostError, OutOfMemoryError } from '../../src/api/contract/errors';
import type { BoundPlan, Device } from '../../src/engine/devices/device';
import { wasmOpener } from '../../src/engine/devices/onnx/wasm';
import { Trace } from '../../src/engine/trace';
import { op, type TensorRef } from '../../src/kernels/op';

type NoAttrs = Readonly<Record<string, never>>;

/** y = Σ x over `n` copies of x, which take 8·n bytes on the way */
const manyCopies = op({
  name: 'toy-many-copies',
  outputs: ({ x }: { x: TensorRef }, _: NoAttrs) => ({ y: { shape: x.shape, dtype: 'f32' } }),
  webgpu: () => [],
  onnx: ({ inputs: { x } }, on) => {
    const { graph } = on;
    const n = graph.node('Reshape', [on.scalar('n', (v) => v['n']!, 'i64'), graph.i64([1])]);
    const copies = graph.node('Expand', [on.value(x), n]);
    const squares = graph.node('Mul', [copies, copies]);
    return { y: graph.node('ReduceSum', [squares, graph.i64([0])], { keepdims: 1 }) };
  },
});

/** y = x / by, in whole numbers: WebAssembly traps at −2³¹ / −1 */
const divide = op({
  name: 'toy-divide',
  outputs: ({ x }: { x: TensorRef; by: TensorRef }, _: NoAttrs) => ({ y: { shape: x.shape, dtype: 'i32' } }),
  webgpu: () => [],
  onnx: ({ inputs: { x, by } }, on) => ({ y: on.graph.node('Div', [on.value(x), on.value(by)]) }),
});

async function bindDivide(device: Device): Promise<BoundPlan> {
  const trace = new Trace('divide');
  const inputs = { x: trace.input('x', [1], 'i32'), by: trace.input('by', [1], 'i32') };
  trace.output('y', trace.apply(divide, inputs, {}).y);
  return (await device.compile(trace, { capacity: {} })).bind('a', {});
}

const quotient = async (plan: BoundPlan, x: number, by: number): Promise<number> => {
  const inputs = { x: Int32Array.of(x), by: Int32Array.of(by) };
  return (await plan.run({ values: {}, inputs, read: ['y'] }))['y']![0]!;
};

describe('the WebAssembly runtime', () => {
  it('says that it has no memory, and goes on', async () => {
    const device = await wasmOpener().open();
    const trace = new Trace('many copies');
    trace.output('y', trace.apply(manyCopies, { x: trace.input('x', [1], 'f32') }, {}).y);
    const plan = (await device.compile(trace, { capacity: {} })).bind('a', {});
    const run = async (n: number): Promise<number> => {
      const { y } = await plan.run({ values: { n }, inputs: { x: Float32Array.of(2) }, read: ['y'] });
      return y![0]!;
    };
    for (const n of [2 ** 29, 2 ** 31]) {
      await expect(run(n)).rejects.toThrow(OutOfMemoryError);
      expect(await run(16)).toBe(64);
    }
    await device.dispose();
  });

  it('is lost when it breaks down; a new one works beside it', async () => {
    const device = await wasmOpener().open();
    const plan = await bindDivide(device);
    expect(await quotient(plan, 12, 4)).toBe(3);
    const kept = device.memory.upload('kept', Float32Array.of(1));
    const [broken, after] = await Promise.allSettled([quotient(plan, -(2 ** 31), -1), quotient(plan, 12, 4)]);
    expect(broken).toMatchObject({ status: 'rejected' });
    expect((broken as PromiseRejectedResult).reason).toBeInstanceOf(DeviceLostError);
    expect((after as PromiseRejectedResult).reason).toBeInstanceOf(DeviceLostError);
    expect((await device.lost).message).toMatch(/broke down in 'divide': /);
    await expect(device.memory.read([kept], 4)).rejects.toThrow(DeviceLostError);
    expect(() => device.memory.storage('more', 4)).toThrow(DeviceLostError);
    await expect(bindDivide(device)).rejects.toThrow(DeviceLostError);
    const next = await wasmOpener().open();
    expect(await quotient(await bindDivide(next), 12, 4)).toBe(3);
    await device.dispose();
    expect(device.counters.bytes).toBe(0);
    await next.dispose();
  });

  it('takes as many threads as it may', async () => {
    const device = await wasmOpener().open();
    const { threads, advice } = device.info;
    // tests are served with the headers that allow threads (vite.config.ts)
    expect(crossOriginIsolated).toBe(true);
    expect(threads).toBe(Math.min(8, navigator.hardwareConcurrency));
    expect(advice).toBeNull();
    await device.dispose();
    const single = await wasmOpener({ threads: 1 }).open();
    expect(single.info).toMatchObject({ threads: 1, advice: null });
    await single.dispose();
  });
});
