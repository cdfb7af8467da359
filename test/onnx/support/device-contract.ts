/** What the ONNX device owes, whichever runtime is beneath it. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { OutOfMemoryError } from '../../../src/api/contract/errors';
import type { Device, DeviceOpener, Plan } from '../../../src/engine/devices/device';
import { Trace } from '../../../src/engine/trace';
import type { HostArray } from '../../../src/kernels/op';
import { addTo, append, pick, scale, tick } from './toy-ops';

const f32 = (...x: number[]): Float32Array<ArrayBuffer> => Float32Array.from(x);
const u32 = (...x: number[]): Uint32Array<ArrayBuffer> => Uint32Array.from(x);

export function deviceContract(name: string, opener: DeviceOpener): void {
  describe(`the ONNX device, ${name}`, () => {
    let device: Device;
    beforeEach(async () => {
      device = await opener.open();
    });
    afterEach(() => device.dispose());

    const contents = async (
      buffer: Parameters<Device['memory']['free']>[0],
      bytes: number,
    ): Promise<number[]> => {
      const { done } = await device.memory.read([buffer], bytes);
      return [...new Float32Array((await done)[0]!)];
    };
    const compile = (trace: Trace, capacity = {}): Promise<Plan> => device.compile(trace, { capacity });

    /** grads[part] += factor · x for two parts of a state, with padding between and behind them */
    function gradients(): Trace {
      const trace = new Trace('gradients');
      const x = trace.input('x', [2, 3], 'f32');
      const grads = trace.state('grads', [192], 'f32');
      const { y } = trace.apply(scale, { x }, {});
      for (const offset of [0, 128]) trace.apply(addTo, { x: y, to: trace.view(grads, offset, [2, 3]) }, {});
      trace.output('y', y);
      return trace;
    }

    it('says what it is', () => {
      expect(device.info).toMatchObject({ kind: opener.kind, software: false });
      expect(device.info.adapter).toMatch(/^onnxruntime-(web|node) \d+\.\d+/);
      expect(device.info.threads).toBeGreaterThan(0);
      expect(device.mergesAdapters).toBe(false);
    });

    it('joins the parts of a state that a graph wrote with those that it did not', async () => {
      const grads = device.memory.upload(
        'grads',
        new Float32Array(192).map((_, i) => i),
      );
      const plan = await compile(gradients());
      const bound = plan.bind('a', { grads });
      const inputs = { x: f32(1, 2, 3, 4, 5, 6) };
      const { y } = await bound.run({ values: { factor: 10 }, inputs, read: ['y'] });
      expect([...y!]).toEqual([10, 20, 30, 40, 50, 60]);
      await bound.run({ values: { factor: 100 }, inputs });
      const expected = Array.from({ length: 192 }, (_, i) => i);
      for (const offset of [0, 128]) for (let i = 0; i < 6; i++) expected[offset + i]! += 110 * (i + 1);
      expect(await contents(grads, 4 * 192)).toEqual(expected);
    });

    it('takes dynamic sizes, and holds callers to what the plan was compiled for', async () => {
      const trace = new Trace('dynamic');
      const { y } = trace.apply(scale, { x: trace.input('x', ['T', 2], 'f32') }, {});
      trace.output('y', y);
      const plan = await compile(trace, { T: 3 });
      const bound = plan.bind('a', {});
      for (const T of [1, 3]) {
        const x = new Float32Array(2 * T).fill(T);
        expect([
          ...(await bound.run({ values: { T, factor: 2 }, inputs: { x }, read: ['y'] }))['y']!,
        ]).toEqual(Array.from(x, (value) => 2 * value));
      }
      await expect(
        bound.run({ values: { T: 4, factor: 1 }, inputs: { x: new Float32Array(8) } }),
      ).rejects.toThrow('T = 4 exceeds its capacity 3');
      await expect(
        bound.run({ values: { T: 2, factor: 1 }, inputs: { x: new Float32Array(3) } }),
      ).rejects.toThrow('input x needs 4 elements, got 3');
    });

    it('does what is asked in the order in which it was asked, and copies what it is given', async () => {
      const grads = device.memory.storage('grads', 4 * 192);
      const bound = (await compile(gradients())).bind('a', { grads });
      const x = f32(1, 1, 1, 1, 1, 1);
      const ran = [bound.run({ values: { factor: 1 }, inputs: { x } })];
      x.fill(7);
      const first = device.memory.copy('first', grads, 4);
      const data = f32(100);
      device.memory.write(grads, 0, data);
      data[0] = 0;
      ran.push(bound.run({ values: { factor: 1 }, inputs: { x } }));
      const second = device.memory.copy('second', grads, 4);
      const target = device.memory.storage('target', 8);
      device.memory.copyInto(grads, target, 8);
      device.memory.free(grads);
      expect(await contents(first, 4)).toEqual([1]);
      expect(await contents(second, 4)).toEqual([107]);
      expect(await contents(target, 8)).toEqual([107, 8]);
      await Promise.all(ran);
    });

    it('writes only the rows of a patch, and reads the cache whole where that is asked', async () => {
      const trace = new Trace('append');
      const cache = trace.state('cache', [4, 2], 'f32');
      const inputs = { cache, x: trace.input('x', ['B', 2], 'f32'), rows: trace.input('rows', ['B'], 'u32') };
      const { cache: after } = trace.apply(append, inputs, {});
      trace.output('picked', trace.apply(pick, { table: after, ids: trace.input('ids', [2], 'u32') }, {}).y);
      const memory = device.memory.upload('cache', f32(0, 1, 2, 3, 4, 5, 6, 7));
      const bound = (await compile(trace)).bind('a', { cache: memory });
      const given = { x: f32(10, 11, 20, 21, 30, 31), rows: u32(2, 0xffffffff, 0), ids: u32(2, 3) };
      const { picked } = await bound.run({ values: { B: 3 }, inputs: given, read: ['picked'] });
      expect([...picked!]).toEqual([10, 11, 6, 7]);
      expect(await contents(memory, 32)).toEqual([30, 31, 2, 3, 10, 11, 6, 7]);
    });

    it('compiles a graph once for caches of any length', async () => {
      const constants = { table: device.memory.upload('table', f32(1, 2, 3, 4)) };
      for (const length of [4, 6]) {
        const trace = new Trace('lengths');
        const x = trace.apply(
          pick,
          {
            table: trace.state('table', [2, 2], 'f32'),
            ids: trace.input('ids', ['B'], 'u32'),
          },
          {},
        ).y;
        trace.apply(
          append,
          { cache: trace.state('cache', [length, 2], 'f32'), x, rows: trace.input('rows', ['B'], 'u32') },
          {},
        );
        const plan = await device.compile(trace, { capacity: {}, constants, resident: true });
        const cache = device.memory.storage('cache', 8 * length);
        const inputs = { ids: u32(1), rows: u32(length - 1) };
        await plan.bind('a', { cache }).run({ values: { B: 1 }, inputs });
        expect((await contents(cache, 8 * length)).slice(-2)).toEqual([3, 4]);
      }
      expect(device.counters.pipelines).toBe(1);
    });

    it('repeats a graph and what follows it on the host', async () => {
      const trace = new Trace('ticks');
      const counter = trace.state('counter', [1], 'u32');
      const log = trace.state('log', [64], 'f32');
      const table = trace.state('table', [4, 1], 'f32');
      const { y } = trace.apply(pick, { table, ids: counter }, {});
      const x = trace.apply(scale, { x: y }, {}).y;
      const ticked = trace.apply(tick, { x, counter, log }, {});
      trace.output('counter', ticked.counter);
      trace.output('log', ticked.log);
      const states = {
        counter: device.memory.storage('counter', 4),
        log: device.memory.storage('log', 256),
        table: device.memory.upload('table', f32(1, 2, 3, 4)),
      };
      const bound = (await compile(trace)).bind('a', states);
      const result = await bound.run({ values: { factor: 3 }, repeat: 3, read: ['counter', 'log'] });
      expect(result['counter']).toEqual(u32(3));
      expect([...result['log']!.subarray(0, 4)]).toEqual([3, 6, 9, 0]);
    });

    it('leaves the states as they were when a run fails, and goes on', async () => {
      const trace = new Trace('failing');
      const sum = trace.state('sum', [2, 2], 'f32');
      const picked = trace.apply(pick, { table: sum, ids: trace.input('ids', [2], 'u32') }, {}).y;
      trace.apply(addTo, { x: picked, to: sum }, {});
      const memory = device.memory.upload('sum', f32(1, 2, 3, 4));
      const bound = (await compile(trace)).bind('a', { sum: memory });
      await expect(bound.run({ values: {}, inputs: { ids: u32(0, 5) } })).rejects.toThrow(/indices|out of/);
      expect(await contents(memory, 16)).toEqual([1, 2, 3, 4]);
      await bound.run({ values: {}, inputs: { ids: u32(1, 1) } });
      expect(await contents(memory, 16)).toEqual([4, 6, 6, 8]);
    });

    it('keeps the output of a plan in a buffer, if one was asked for', async () => {
      const trace = new Trace('kept');
      trace.output('y', trace.apply(scale, { x: trace.state('x', [3], 'f32') }, {}).y);
      const plan = await compile(trace);
      const buffer = plan.outputBuffer('y');
      const x = device.memory.upload('x', f32(1, 2, 3));
      await plan.bind('a', { x }).run({ values: { factor: 5 } });
      expect(await contents(buffer, 12)).toEqual([5, 10, 15]);
    });

    it('uses constants of a plan that runs for every token as those of any other', async () => {
      const trace = new Trace('resident');
      const table = trace.state('table', [192], 'f32');
      const part = trace.view(table, 64, [2, 3]);
      trace.output('y', trace.apply(pick, { table: part, ids: trace.input('ids', ['B'], 'u32') }, {}).y);
      const constants = {
        table: device.memory.upload(
          'table',
          new Float32Array(192).map((_, i) => i),
        ),
      };
      for (const resident of [true, false]) {
        const plan = await device.compile(trace, { capacity: { B: 2 }, constants, resident });
        const { y } = await plan
          .bind('a', {})
          .run({ values: { B: 2 }, inputs: { ids: u32(1, 0) }, read: ['y'] });
        expect([...y!]).toEqual([67, 68, 69, 64, 65, 66]);
      }
    });

    it('names the state that is not bound', async () => {
      const plan = await compile(gradients());
      expect(() => plan.bind('a', {})).toThrow('state grads is not bound');
    });

    it('compiles equal graphs once, prepared or not', async () => {
      const { counters } = device;
      await device.prepare(gradients());
      const plans = await Promise.all([compile(gradients()), compile(gradients())]);
      expect(counters.pipelines).toBe(1);
      for (const plan of plans) plan.dispose();
      await compile(gradients());
      expect(counters.pipelines).toBe(2);
    });

    it('counts its memory, and gives it back', async () => {
      const { counters, memory } = device;
      const grads = memory.storage('grads', 4 * 192);
      expect(counters.bytes).toBe(768);
      const plan = await compile(gradients());
      for (let i = 0; i < 5; i++) {
        await plan.bind('a', { grads }).run({ values: { factor: 1 }, inputs: { x: new Float32Array(6) } });
      }
      expect(counters.submits).toBe(5);
      // at most one more of what a run replaces
      expect(counters.peakBytes).toBeLessThanOrEqual(2 * 768);
      plan.dispose();
      memory.free(grads);
      memory.free(grads);
      expect(counters.bytes).toBeLessThanOrEqual(768);
      await device.dispose();
      expect(counters.bytes).toBe(0);
    });

    it('says what there is no memory for, and frees what was made for it', async () => {
      const { memory, counters } = device;
      const tooMuch = (): HostArray[] => {
        memory.storage('small', 1024);
        memory.storage('huge', 2 ** 46);
        return [];
      };
      const failed = memory.allocate('the large model', tooMuch);
      await expect(failed).rejects.toThrow(OutOfMemoryError);
      await expect(failed).rejects.toThrow('the large model');
      expect(counters.bytes).toBe(0);
    });

    it('refuses work after it was disposed', async () => {
      const grads = device.memory.storage('grads', 4 * 192);
      const bound = (await compile(gradients())).bind('a', { grads });
      await device.dispose();
      await expect(bound.run({ values: { factor: 1 }, inputs: { x: new Float32Array(6) } })).rejects.toThrow(
        'disposed',
      );
    });
  });
}
