/** The k likeliest ids of every row, from logits that come in chunks of the vocabulary. */
import { ceilDiv, kernel, spread, type KernelSpec } from '../kernel';
import { elements, fixed, op, sizeOf, type TensorRef } from '../op';
import { topKOnnx } from './topk.onnx';
import group from './topk-group.wgsl?raw';
import rows from './topk-rows.wgsl?raw';

const spec = (name: string, code: string): KernelSpec =>
  kernel({
    name,
    code,
    bindings: {
      logits: { elem: 'f32', access: 'read' },
      before_ids: { elem: 'u32', access: 'read' },
      before_best: { elem: 'f32', access: 'read' },
      ids: { elem: 'u32', access: 'read_write' },
      best: { elem: 'f32', access: 'read_write' },
    },
    params: { rows: 'u32', width: 'u32', start: 'u32', k: 'u32' },
  });

const rowsKernel = spec('topk-rows', rows);
const groupKernel = spec('topk-group', group);

export interface TopKAttrs {
  /** vocabulary id of the chunk's first column; chunks come in order of ids */
  readonly start: number;
}

/**
 * Takes one chunk of the vocabulary into the running lists of the k largest logits.
 *
 * logits (T, VT) → ids (R) u32 and best (R), their logits: R = T·k, the list of each row from the largest
 * down, smaller ids first among equals. The run value `R` says k, which must not exceed the vocabulary.
 * Leave the inputs `ids` and `best` out for the first chunk, and pass the outputs on to the next.
 * A row with a NaN has a list that means nothing: its log-sum-exp says so.
 */
export const topK = op({
  name: 'topk',
  outputs: (
    { logits }: { logits: TensorRef; ids?: TensorRef | undefined; best?: TensorRef | undefined },
    _attrs: TopKAttrs,
  ) => {
    fixed(logits.shape[1], 'width of logits');
    return { ids: { shape: ['R'], dtype: 'u32' }, best: { shape: ['R'], dtype: 'f32' } };
  },
  webgpu: ({ inputs: { logits, ids, best }, outputs, attrs: { start } }, { kind }) => {
    const [T, width] = [logits.shape[0]!, fixed(logits.shape[1], 'width of logits')];
    return [
      {
        kernel: kind === 'software' ? rowsKernel : groupKernel,
        // at start 0 the lists before are not read: anything may stand there
        bind: { logits, before_ids: ids ?? logits, before_best: best ?? logits, ...outputs },
        params: (v) => {
          const count = sizeOf(T, v);
          const k = elements(outputs.ids.shape, v) / count;
          if (!Number.isInteger(k)) throw new Error(`topk: ${k} cells a row`);
          return { rows: count, width, start, k };
        },
        grid: (v) => spread(kind === 'software' ? ceilDiv(sizeOf(T, v), 16) : sizeOf(T, v)),
      },
    ];
  },
  onnx: ({ inputs, attrs: { start } }, on) => topKOnnx(inputs, start, on),
});
