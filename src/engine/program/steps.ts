/** The traces the engine compiles: one function per kind of step. */
import { adamw, gradNorm } from '../../kernels/adamw/adamw';
import { attentionCached, kvAppend } from '../../kernels/attention/attention-cached';
import { embedding } from '../../kernels/embedding/embedding';
import { gradientGuard, lossFault } from '../../kernels/loss/guard';
import { LOSSES, type Loss, type LossName } from '../../kernels/loss/index';
import { matmul } from '../../kernels/matmul/matmul';
import type { TensorRef } from '../../kernels/op';
import { rmsnorm } from '../../kernels/rmsnorm/rmsnorm';
import { decodeStateLayout, sample } from '../../kernels/sample/sample';
import { topK } from '../../kernels/topk/topk';
import type { DecoderConfig } from '../../models/config';
import { Trace } from '../trace';
import { linearsOf, rowsOf, type AdapterLayout, type Linear } from './adapter';
import { headBackward, headForward } from './head';
import {
  backward,
  batchInputs,
  forward,
  frozenWeight,
  mergedWeights,
  normWeight,
  packedAttention,
  type ProgramModel,
  type WeightOf,
} from './llama';
import { mergedName } from './weights';

/** Applies a loss to log-probabilities (C); declares its inputs, each (C). Outputs `logprob` (C) and `loss` (C), the terms of the sum. */
function applyLoss(
  trace: Trace,
  lossFn: LossName,
  logprob: TensorRef,
): { readonly loss: TensorRef; readonly d_logprob: TensorRef } {
  const loss: Loss = LOSSES[lossFn];
  const inputs: Record<string, TensorRef> = {};
  for (const { name, dtype } of loss.inputs) inputs[name] = trace.input(name, ['C'], dtype);
  const terms = trace.apply(loss.op, { ...inputs, logprob }, {});
  trace.output('logprob', logprob);
  trace.output('loss', terms.loss);
  return terms;
}

/** Declares the targets: C = T·K ids, the K targets of a token side by side. K is settled at run time. */
const targetsInput = (trace: Trace): TensorRef => trace.input('targets', ['C'], 'u32');

/** Log-probabilities and loss without a gradient. Inputs and outputs as `trainTrace`. */
export function forwardTrace(model: ProgramModel, lossFn: LossName): Trace {
  const trace = new Trace(`forward.${lossFn}`);
  const batch = batchInputs(trace);
  const targets = targetsInput(trace);
  const weightOf = mergedWeights(trace, model);
  const attend = packedAttention(trace, model.config, batch.segments);
  const { hidden } = forward(trace, model.config, weightOf, batch, attend);
  applyLoss(trace, lossFn, headForward(trace, model, hidden, targets).logprob);
  return trace;
}

/**
 * Forward, loss and backward; adds to `lora.grads`.
 * Inputs: the batch, `targets`, and the loss's own, each (C); run values: the loss's settings, and those of
 * `gradientGuard`. Outputs `logprob` (C) and `loss` (C), the terms of the sum.
 */
export function trainTrace(
  model: ProgramModel & { readonly adapter: AdapterLayout },
  lossFn: LossName,
): Trace {
  const trace = new Trace(`forward-backward.${lossFn}`);
  const batch = batchInputs(trace);
  const targets = targetsInput(trace);
  const weightOf = mergedWeights(trace, model);
  const attend = packedAttention(trace, model.config, batch.segments);
  const pass = forward(trace, model.config, weightOf, batch, attend);
  const head = headForward(trace, model, pass.hidden, targets);
  const { loss, d_logprob } = applyLoss(trace, lossFn, head.logprob);
  const { fault } = trace.apply(lossFault, { loss, fault: trace.state('lora.fault', [1], 'u32') }, {});
  backward(trace, model, weightOf, batch, pass, headBackward(trace, model, head, d_logprob));
  const vector = (name: string): TensorRef => trace.state(`lora.${name}`, [model.adapter.length], 'f32');
  trace.apply(gradientGuard, { grads: vector('grads'), saved: vector('saved'), fault }, {});
  return trace;
}

/**
 * Log-probabilities of a prompt's tokens and, with `topk`, of the likeliest ones. Inputs: the batch and `targets` (C).
 * Outputs `logprob` (C) and `lse` (T); with `topk` also `ids` and `logits` (R), the `R / T` best of each row.
 */
export function promptTrace(model: ProgramModel, topk: boolean): Trace {
  const trace = new Trace(topk ? 'prompt.topk' : 'prompt');
  const batch = batchInputs(trace);
  const targets = targetsInput(trace);
  const weightOf = mergedWeights(trace, model);
  const attend = packedAttention(trace, model.config, batch.segments);
  const { hidden } = forward(trace, model.config, weightOf, batch, attend);
  let best: { readonly ids?: TensorRef; readonly best?: TensorRef } = {};
  const { logprob, lse } = headForward(trace, model, hidden, targets, (logits, start) => {
    if (topk) best = trace.apply(topK, { logits, ids: best.ids, best: best.best }, { start });
  });
  trace.output('logprob', logprob);
  trace.output('lse', lse);
  if (best.ids && best.best) {
    trace.output('ids', best.ids);
    trace.output('logits', best.best);
  }
  return trace;
}

/** Global gradient norm, clipping and AdamW; outputs `norm` (1) and the new `params`, `m` and `v`. Clears the gradients. */
export function optimizerTrace({ length }: AdapterLayout): Trace {
  const trace = new Trace('optim-step');
  const vector = (name: string): TensorRef => trace.state(`lora.${name}`, [length], 'f32');
  const grads = vector('grads');
  const { norm } = trace.apply(gradNorm, { grads }, {});
  trace.output('norm', norm);
  const next = trace.apply(
    adamw,
    { params: vector('params'), grads, m: vector('m'), v: vector('v'), norm },
    {},
  );
  trace.output('params', next.params);
  trace.output('m', next.m);
  trace.output('v', next.v);
  return trace;
}

/** The weights of every trained linear with the adapter merged in, as outputs `merged.*`. */
export function mergeTrace(model: ProgramModel & { readonly adapter: AdapterLayout }): Trace {
  const trace = new Trace('merge');
  const weightOf = mergedWeights(trace, model);
  for (const { linear } of model.adapter.slots.values())
    trace.output(mergedName(linear.key), weightOf(linear));
  return trace;
}

/** A model to sample from. */
export interface SamplingModel extends ProgramModel {
  /** whether the weights of trained linears are there with the adapter merged in, as states `merged.*` */
  readonly merged: boolean;
}

/** Weights for sampling: the merged ones where the adapter trains a linear, else the frozen ones. */
function samplingWeights(trace: Trace, model: SamplingModel): WeightOf {
  const { config, adapter, merged } = model;
  if (!merged) return mergedWeights(trace, model);
  return (linear: Linear) =>
    adapter?.slots.has(linear.key)
      ? trace.state(mergedName(linear.key), [rowsOf(linear), linear.inputs], 'f32')
      : frozenWeight(trace, config, linear);
}

/** Sizes of the memory one sampling request works in. */
export interface DecodeCapacity {
  /** samples decoded side by side */
  readonly batch: number;
  /** rows of the key/value cache: the prompt, then a stretch for each sample */
  readonly rows: number;
  /** tokens each sample may generate */
  readonly steps: number;
  /** entries of the stop list */
  readonly stops: number;
}

interface Cache {
  readonly k: TensorRef;
  readonly v: TensorRef;
}

function cacheOf(trace: Trace, { kvHeads, headDim }: DecoderConfig, rows: number, i: number): Cache {
  return {
    k: trace.state(`cache.k.${i}`, [rows, kvHeads * headDim], 'f32'),
    v: trace.state(`cache.v.${i}`, [rows, kvHeads * headDim], 'f32'),
  };
}

/** Final norm, logits of each row, and the next token of every sample. Outputs `state`, `tokens`, `logprobs`. */
function sampleFrom(
  trace: Trace,
  model: ProgramModel,
  weightOf: WeightOf,
  hidden: TensorRef,
  capacity: DecodeCapacity,
  sharedLogits: boolean,
): void {
  const { config } = model;
  const { y } = trace.apply(
    rmsnorm,
    { x: hidden, weight: normWeight(trace, config, 'norm') },
    { eps: config.rmsNormEps },
  );
  const logits = trace.apply(matmul, { a: y, b: weightOf(linearsOf(config).at(-1)!) }, { mode: 'NT' }).y;
  const outputs = capacity.batch * capacity.steps;
  const next = trace.apply(
    sample,
    {
      logits,
      state: trace.state('decode', [decodeStateLayout(capacity.batch).length], 'u32'),
      out_tokens: trace.state('out.tokens', [outputs], 'u32'),
      out_logprobs: trace.state('out.logprobs', [outputs], 'f32'),
      stop: trace.state('stop', [capacity.stops], 'u32'),
    },
    { batch: capacity.batch, sharedLogits },
  );
  trace.output('state', next.state);
  trace.output('tokens', next.out_tokens);
  trace.output('logprobs', next.out_logprobs);
}

/** Reads the prompt into the cache and samples the first token of every sample. Inputs: the batch, `rows` (T), `last` (1). */
export function prefillTrace(model: SamplingModel, capacity: DecodeCapacity): Trace {
  const trace = new Trace('prefill');
  const { config } = model;
  const { heads, kvHeads, headDim } = config;
  const batch = batchInputs(trace);
  const rows = trace.input('rows', ['T'], 'u32');
  const last = trace.input('last', [1], 'u32');
  const weightOf = samplingWeights(trace, model);
  const packed = packedAttention(trace, config, batch.segments);
  const { hidden } = forward(trace, config, weightOf, batch, (qkv, i) => {
    const { k, v } = cacheOf(trace, config, capacity.rows, i);
    trace.apply(kvAppend, { qkv, rows, cache_k: k, cache_v: v }, { heads, kvHeads, headDim });
    return packed(qkv, i);
  });
  const lastHidden = trace.apply(embedding, { tokens: last, weight: hidden }, {}).h;
  sampleFrom(trace, model, weightOf, lastHidden, capacity, true);
  return trace;
}

/** One token further for every sample (dynamic size `B`); all it needs is on the device. */
export function decodeTrace(model: SamplingModel, capacity: DecodeCapacity): Trace {
  const trace = new Trace('decode');
  const { config } = model;
  const { heads, kvHeads, headDim } = config;
  const layout = decodeStateLayout(capacity.batch);
  const state = trace.state('decode', [layout.length], 'u32');
  const tokens = trace.view(state, layout.tokens, ['B']);
  const positions = trace.view(state, layout.positions, ['B']);
  const rows = trace.view(state, layout.rows, ['B']);
  const slots = trace.view(state, layout.slots, ['B', 4]);
  const weightOf = samplingWeights(trace, model);
  const { hidden } = forward(trace, config, weightOf, { tokens, positions }, (qkv, i) => {
    const { k, v } = cacheOf(trace, config, capacity.rows, i);
    const cache = trace.apply(kvAppend, { qkv, rows, cache_k: k, cache_v: v }, { heads, kvHeads, headDim });
    return trace.apply(
      attentionCached,
      { qkv, cache_k: cache.cache_k, cache_v: cache.cache_v, slots },
      { heads, kvHeads, headDim },
    );
  });
  sampleFrom(trace, model, weightOf, hidden, capacity, false);
  return trace;
}
