/** Small ops for tests of the ONNX device: each shows it one way of reading or leaving a tensor. */
import type { Value } from '../../../src/onnx/graph';
import { op, type HostArray, type TensorRef } from '../../../src/kernels/op';

const unused = (): never => {
  throw new Error('these ops are for ONNX only');
};
export type NoAttrs = Readonly<Record<string, never>>;

/** y = x · the run value `factor` */
export const scale = op({
  name: 'toy-scale',
  outputs: ({ x }: { x: TensorRef }, _: NoAttrs) => ({ y: { shape: x.shape, dtype: 'f32' } }),
  webgpu: unused,
  onnx: ({ inputs: { x } }, on) => ({
    y: on.graph.node('Mul', [on.value(x), on.scalar('factor', (v) => v['factor']!)]),
  }),
});

/** to += x */
export const addTo = op({
  name: 'toy-add-to',
  outputs: ({ to }: { x: TensorRef; to: TensorRef }, _: NoAttrs) => ({
    to: { shape: to.shape, dtype: 'f32', inPlace: 'to' },
  }),
  webgpu: unused,
  onnx: ({ inputs: { x, to } }, on) => ({ to: on.graph.node('Add', [on.value(to), on.value(x)]) }),
});

/** y = table[ids]; ids out of range fail the run */
export const pick = op({
  name: 'toy-pick',
  outputs: ({ table, ids }: { table: TensorRef; ids: TensorRef }, _: NoAttrs) => ({
    y: { shape: [ids.shape[0]!, table.shape[1]!], dtype: 'f32' },
  }),
  webgpu: unused,
  onnx: ({ inputs: { table, ids } }, on) => ({
    y: on.graph.node('Gather', [on.value(table), on.value(ids)], { axis: 0 }),
  }),
});

/** cache[rows[i]] = x[i], where −1 is no row; leaves the cache as a patch */
export const append = op({
  name: 'toy-append',
  outputs: ({ cache }: { cache: TensorRef; x: TensorRef; rows: TensorRef }, _: NoAttrs) => ({
    cache: { shape: cache.shape, dtype: 'f32', inPlace: 'cache' },
  }),
  webgpu: unused,
  onnx: ({ inputs }, on) => {
    const { graph } = on;
    const [old, rows, values] = [on.value(inputs.cache), on.value(inputs.rows), on.value(inputs.x)];
    const size = inputs.cache.shape[0] as number;
    const whole = (): Value => {
      // ScatterND takes no row −1: that goes to a row that is cut off again
      const none = graph.node('Less', [rows, graph.i32(0)], {}, 'bool');
      const index = graph.node('Where', [none, graph.i32(size), rows], {}, 'i32');
      const column = graph.node('Unsqueeze', [graph.node('Cast', [index], { to: 7 }, 'i64'), graph.i64([1])]);
      const wide = graph.node('Pad', [old, graph.i64([0, 0, 1, 0])]);
      const written = graph.node('ScatterND', [wide, column, values]);
      return graph.node('Slice', [written, graph.i64([0]), graph.i64([size]), graph.i64([0])]);
    };
    return { cache: { kind: 'toy-patched', whole, patch: { rows, values } } };
  },
});

/** Advances a counter by the first of `x`, and notes what it was: on the host. `counter` (1) u32, `log` (n) f32. */
export const tick = op({
  name: 'toy-tick',
  outputs: ({ counter, log }: { x: TensorRef; counter: TensorRef; log: TensorRef }, _: NoAttrs) => ({
    counter: { shape: counter.shape, dtype: 'u32', inPlace: 'counter' },
    log: { shape: log.shape, dtype: 'f32', inPlace: 'log' },
  }),
  webgpu: unused,
  host: ({ inputs, outputs }, array: (ref: TensorRef) => HostArray) => {
    const [x, counter, log] = [array(inputs.x), array(outputs.counter), array(outputs.log)];
    log[counter[0]!] = x[0]!;
    counter[0]! += 1;
  },
});
