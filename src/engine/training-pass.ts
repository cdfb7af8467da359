/** One forward or forward-backward request: what of it runs on the GPU, and what it answers. */
import type { ForwardBackwardRequest } from '../api/contract/backend';
import { RequestFailedError } from '../api/contract/errors';
import { lossSettings } from '../api/contract/losses';
import type { ForwardBackwardPayload, TensorPayload } from '../api/contract/types';
import type { GuardValues } from '../kernels/loss/guard';
import type { HostArray, RunValues } from '../kernels/op';
import type { DecoderConfig } from '../models/config';
import { microBatchTokens, packBatches, widthOf, type PackedBatch } from './batch';
import type { RunOptions } from './devices/device';
import type { AdapterLayout } from './program/adapter';
import { forwardTrace, trainTrace } from './program/steps';
import type { Trace } from './trace';

export type PassRequest = Pick<ForwardBackwardRequest, 'data' | 'lossFn' | 'lossFnConfig' | 'forwardOnly'>;

export class TrainingPass {
  /** run one after the other */
  readonly batches: readonly PackedBatch[];
  /** of the plan, and the sizes it must have room for */
  readonly key: string;
  readonly sizes: RunValues;

  constructor(
    private readonly model: { readonly config: DecoderConfig; readonly adapter: AdapterLayout },
    private readonly request: PassRequest,
  ) {
    const { data, lossFn, forwardOnly } = request;
    this.batches = packBatches(data, microBatchTokens(model.config));
    this.key = `${forwardOnly ? 'forward' : 'train'}.${lossFn}/${model.adapter.key}`;
    this.sizes = {
      T: Math.max(...this.batches.map((b) => b.tokens)),
      C: Math.max(...this.batches.map((b) => b.tokens * b.width)),
    };
  }

  trace(): Trace {
    const { lossFn, forwardOnly } = this.request;
    return forwardOnly ? forwardTrace(this.model, lossFn) : trainTrace(this.model, lossFn);
  }

  /** What to run batch `i` with. @param hasSaved see `GuardValues` */
  run(i: number, hasSaved: boolean): RunOptions {
    const { tokens, width, inputs } = this.batches[i]!;
    const { lossFn, lossFnConfig } = this.request;
    const guard: GuardValues = { has_saved: Number(hasSaved), last: Number(i === this.batches.length - 1) };
    return {
      values: { T: tokens, C: tokens * width, ...lossSettings(lossFn, lossFnConfig), ...guard },
      inputs,
      read: ['logprob', 'loss'],
    };
  }

  /**
   * The answer, from what the batches read back.
   * @throws RequestFailedError NonFiniteInTensor; the GPU has then taken back what the request added to the gradients
   */
  answer(results: readonly Record<string, HostArray>[], clock: number): ForwardBackwardPayload {
    const { data, lossFn } = this.request;
    const outputs: Record<string, TensorPayload>[] = new Array<Record<string, TensorPayload>>(data.length);
    let loss = 0;
    results.forEach((result, i) => {
      const { logprob, loss: terms } = result as Record<'logprob' | 'loss', Float32Array<ArrayBuffer>>;
      for (const term of terms) loss += term;
      if (!Number.isFinite(loss)) this.#refuse(this.batches[i]!, logprob, terms);
      const { datums, width } = this.batches[i]!;
      for (const { index, start, length } of datums) {
        const targets = data[index]!.lossFnInputs['target_tokens']!;
        const values = columns(
          logprob.subarray(start * width, (start + length) * width),
          width,
          widthOf(targets),
        );
        outputs[index] = { logprobs: { dtype: 'float32', shape: targets.shape, data: values } };
      }
    });
    return {
      lossFnOutputType: lossFn,
      lossFnOutputs: outputs,
      metrics: { 'loss:sum': loss, 'clock_cycle:unique': clock },
    };
  }

  /** Says which term is not finite, of what it was made, and what to do. */
  #refuse({ datums, width, inputs }: PackedBatch, logprob: Float32Array, terms: Float32Array): never {
    const cell = terms.findIndex((term) => !Number.isFinite(term));
    const row = Math.floor(cell / width);
    const { index, start } = datums.findLast((d) => d.start <= row)!;
    const at = width > 1 ? `${row - start}, target ${cell % width}` : String(row - start);
    const known = Object.keys(this.request.data[index]!.lossFnInputs).filter(
      (name) => name !== 'target_tokens',
    );
    const made = known.map((name) => `${name} ${inputs[name]![cell]}`).join(', ');
    const advice = Number.isFinite(logprob[cell])
      ? `it exceeds float32: check ${known.join(' and ')} of that token`
      : 'the logits of the model are not finite: go back to a checkpoint, and lower the learning rate';
    const kept = this.request.forwardOnly ? '' : ' This request added nothing to the gradients.';
    throw new RequestFailedError(
      `NonFiniteInTensor: the loss of data[${index}] at token ${at} is not finite ` +
        `(log-probability ${logprob[cell]}, ${made}); ${advice}.${kept}`,
      { category: 'user' },
    );
  }
}

/** The first `wanted` of every `width` columns. */
function columns(cells: Float32Array<ArrayBuffer>, width: number, wanted: number): Float32Array<ArrayBuffer> {
  if (width === wanted) return cells.slice();
  const rows = cells.length / width;
  return Float32Array.from(
    { length: rows * wanted },
    (_, i) => cells[Math.floor(i / wanted) * width + (i % wanted)]!,
  );
}
