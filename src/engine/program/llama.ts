/**
 * The Llama-family decoder, forward and backward. `backward()` reads as
 * `forward()` upside down.
 *
 * T tokens of several sequences lie back to back (`segments` says where each
 * one's sequence begins and ends); no padding is computed.
 */
import { attention, attentionBackward } from '../../kernels/attention/attention';
import { embedding } from '../../kernels/embedding/embedding';
import { loraGradients, loraMerge } from '../../kernels/lora/lora';
import { matmul } from '../../kernels/matmul/matmul';
import type { TensorRef } from '../../kernels/op';
import { rmsnorm, rmsnormBackward } from '../../kernels/rmsnorm/rmsnorm';
import { rope } from '../../kernels/rope/rope';
import { swiglu, swigluBackward } from '../../kernels/swiglu/swiglu';
import type { DecoderConfig } from '../../models/config';
import type { Trace } from '../trace';
import { rowsOf, linearsOf, type AdapterLayout, type Linear } from './adapter';
import { baseName, unembedName } from './weights';

/** What a program needs to know of its model. */
export interface ProgramModel {
  readonly config: DecoderConfig;
  /** null: the base model alone */
  readonly adapter: AdapterLayout | null;
}

/** The packed batch a program reads. */
export interface Batch {
  /** (T) u32 */
  readonly tokens: TensorRef;
  /** (T) u32: index within its sequence */
  readonly positions: TensorRef;
  /** (T, 2) u32: first row of the token's sequence, and the row after its last */
  readonly segments: TensorRef;
}

/** Declares the batch inputs of a trace. */
export function batchInputs(trace: Trace): Batch {
  return {
    tokens: trace.input('tokens', ['T'], 'u32'),
    positions: trace.input('positions', ['T'], 'u32'),
    segments: trace.input('segments', ['T', 2], 'u32'),
  };
}

/** A linear's weight as the step sees it: (rows, inputs). */
export type WeightOf = (linear: Linear) => TensorRef;

/** The frozen weight of a linear. */
export function frozenWeight(trace: Trace, config: DecoderConfig, linear: Linear): TensorRef {
  const name = linear.kind === 'unembed' ? unembedName(config) : baseName(linear.key);
  return trace.state(name, [rowsOf(linear), linear.inputs], 'f32');
}

/** W + scale·B·A for linears the adapter trains, W for the others; made once per trace. */
export function mergedWeights(trace: Trace, { config, adapter }: ProgramModel): WeightOf {
  const made = new Map<string, TensorRef>();
  return (linear) => {
    let ref = made.get(linear.key);
    if (!ref) {
      ref = frozenWeight(trace, config, linear);
      const lora = adapter && loraOf(trace, adapter, linear);
      if (lora) ref = trace.apply(loraMerge, { weight: ref, a: lora.a, b: lora.b }, lora.attrs).merged;
      made.set(linear.key, ref);
    }
    return ref;
  };
}

interface Lora {
  /** (G·r, K) */
  readonly a: TensorRef;
  /** (N, r) */
  readonly b: TensorRef;
  readonly attrs: { readonly rank: number; readonly scale: number; readonly groups: readonly number[] };
}

/** Views of a linear's A and B in a flat vector (the parameters, or their gradients). */
export function loraOf(
  trace: Trace,
  adapter: AdapterLayout,
  linear: Linear,
  vector: 'lora.params' | 'lora.grads' = 'lora.params',
): Lora | null {
  const slot = adapter.slots.get(linear.key);
  if (!slot) return null;
  const { rank, scale } = adapter;
  const flat = trace.state(vector, [adapter.length], 'f32');
  return {
    a: trace.view(flat, slot.a, [linear.members.length * rank, linear.inputs]),
    b: trace.view(flat, slot.b, [rowsOf(linear), rank]),
    attrs: { rank, scale, groups: slot.groups },
  };
}

/** The linears of one layer. */
interface LayerLinears {
  readonly qkv: Linear;
  readonly o: Linear;
  readonly gateUp: Linear;
  readonly down: Linear;
}

export function layerLinears(config: DecoderConfig): LayerLinears[] {
  const all = linearsOf(config);
  return Array.from({ length: config.layers }, (_, i) => ({
    qkv: all[4 * i]!,
    o: all[4 * i + 1]!,
    gateUp: all[4 * i + 2]!,
    down: all[4 * i + 3]!,
  }));
}

/** A norm's weight. */
export function normWeight(trace: Trace, { hiddenSize }: DecoderConfig, name: string): TensorRef {
  return trace.state(name, [hiddenSize], 'f32');
}

/** The table of rotary angles. */
export function ropeState(trace: Trace, config: DecoderConfig): TensorRef {
  return trace.state('rope', [config.maxPositionEmbeddings, config.headDim], 'f32');
}

/** y = x·Wᵀ (+ add). */
function linear(trace: Trace, x: TensorRef, w: TensorRef, add?: TensorRef): TensorRef {
  return trace.apply(matmul, { a: x, b: w, add }, { mode: 'NT' }).y;
}

/** dx = dy·W. */
function linearBackward(trace: Trace, dy: TensorRef, w: TensorRef): TensorRef {
  return trace.apply(matmul, { a: dy, b: w }, { mode: 'NN' }).y;
}

/** What the backward pass needs of one layer. */
interface LayerSaved {
  readonly linears: LayerLinears;
  /** (T, D) the layer's input, its inverse RMS (T), and normed */
  readonly x1: TensorRef;
  readonly rstd1: TensorRef;
  readonly n1: TensorRef;
  /** (T, (H + 2·KV)·hd), rotated */
  readonly qkv: TensorRef;
  /** (T, H·hd); and (T, H), which attention against a cache does not make */
  readonly att: TensorRef;
  readonly lse: TensorRef | undefined;
  /** (T, D) after attention, its inverse RMS (T), and normed */
  readonly x2: TensorRef;
  readonly rstd2: TensorRef;
  readonly n2: TensorRef;
  /** (T, 2·F) */
  readonly gateUp: TensorRef;
}

export interface Forward {
  /** (T, D) after the last layer, before the final norm */
  readonly hidden: TensorRef;
  readonly saved: readonly LayerSaved[];
}

/** How a layer attends: over the packed batch, or against a cache. Gets the rotated qkv of layer `i`. */
export type Attend = (qkv: TensorRef, i: number) => { readonly out: TensorRef; readonly lse?: TensorRef };

/** Attention over the packed batch. */
export function packedAttention(trace: Trace, config: DecoderConfig, segments: TensorRef): Attend {
  const { heads, kvHeads, headDim } = config;
  return (qkv) => trace.apply(attention, { qkv, segments }, { heads, kvHeads, headDim });
}

/** Embedding and all layers. */
export function forward(
  trace: Trace,
  config: DecoderConfig,
  weightOf: WeightOf,
  { tokens, positions }: Pick<Batch, 'tokens' | 'positions'>,
  attend: Attend,
): Forward {
  const { hiddenSize, vocabSize, heads, kvHeads, headDim, rmsNormEps: eps } = config;
  const table = ropeState(trace, config);
  const embed = trace.state('embed', [vocabSize, hiddenSize], 'f32');
  let hidden = trace.apply(embedding, { tokens, weight: embed }, {}).h;
  const saved = layerLinears(config).map((linears, i): LayerSaved => {
    const x1 = hidden;
    const norm1 = trace.apply(rmsnorm, { x: x1, weight: normWeight(trace, config, `norm1.${i}`) }, { eps });
    const raw = linear(trace, norm1.y, weightOf(linears.qkv));
    const { qkv } = trace.apply(
      rope,
      { qkv: raw, positions, table },
      { heads: heads + kvHeads, headDim, inverse: false },
    );
    const { out: att, lse } = attend(qkv, i);
    const x2 = linear(trace, att, weightOf(linears.o), x1);
    const norm2 = trace.apply(rmsnorm, { x: x2, weight: normWeight(trace, config, `norm2.${i}`) }, { eps });
    const gateUp = linear(trace, norm2.y, weightOf(linears.gateUp));
    const { act } = trace.apply(swiglu, { gate_up: gateUp }, {});
    hidden = linear(trace, act, weightOf(linears.down), x2);
    return {
      linears,
      x1,
      rstd1: norm1.rstd,
      n1: norm1.y,
      qkv,
      att,
      lse,
      x2,
      rstd2: norm2.rstd,
      n2: norm2.y,
      gateUp,
    };
  });
  return { hidden, saved };
}

/**
 * Adds every LoRA gradient below the head to `lora.grads`.
 * @param dHidden (T, D) gradient of the loss by `forward().hidden`
 */
export function backward(
  trace: Trace,
  { config, adapter }: ProgramModel & { readonly adapter: AdapterLayout },
  weightOf: WeightOf,
  { positions, segments }: Batch,
  { saved }: Forward,
  dHidden: TensorRef,
): void {
  const { heads, kvHeads, headDim } = config;
  const table = ropeState(trace, config);
  let d = dHidden;
  for (let i = saved.length - 1; i >= 0; i--) {
    const s = saved[i]!;
    const dAct = linearBackward(trace, d, weightOf(s.linears.down));
    const { d_gate_up: dGateUp, act } = trace.apply(swigluBackward, { gate_up: s.gateUp, d_act: dAct }, {});
    loraBackward(trace, adapter, s.linears.down, act, d);
    const dN2 = linearBackward(trace, dGateUp, weightOf(s.linears.gateUp));
    loraBackward(trace, adapter, s.linears.gateUp, s.n2, dGateUp);
    const { dx: dX2 } = trace.apply(
      rmsnormBackward,
      { x: s.x2, weight: normWeight(trace, config, `norm2.${i}`), rstd: s.rstd2, dy: dN2, d_residual: d },
      {},
    );
    if (!s.lse) throw new Error('the forward pass of a cache has no backward');
    const dAtt = linearBackward(trace, dX2, weightOf(s.linears.o));
    loraBackward(trace, adapter, s.linears.o, s.att, dX2);
    const rotated = trace.apply(
      attentionBackward,
      { qkv: s.qkv, segments, out: s.att, lse: s.lse, d_out: dAtt },
      { heads, kvHeads, headDim },
    ).d_qkv;
    const { qkv: dQkv } = trace.apply(
      rope,
      { qkv: rotated, positions, table },
      { heads: heads + kvHeads, headDim, inverse: true },
    );
    loraBackward(trace, adapter, s.linears.qkv, s.n1, dQkv);
    // nothing below the first layer is trained
    if (i === 0) break;
    const dN1 = linearBackward(trace, dQkv, weightOf(s.linears.qkv));
    d = trace.apply(
      rmsnormBackward,
      { x: s.x1, weight: normWeight(trace, config, `norm1.${i}`), rstd: s.rstd1, dy: dN1, d_residual: dX2 },
      {},
    ).dx;
  }
}

/** Adds the gradients of a linear's A and B, given its input x (T, K) and output gradient dy (T, N). */
function loraBackward(
  trace: Trace,
  adapter: AdapterLayout,
  linear: Linear,
  x: TensorRef,
  dy: TensorRef,
): void {
  const params = loraOf(trace, adapter, linear);
  const grads = loraOf(trace, adapter, linear, 'lora.grads');
  if (!params || !grads) return;
  trace.apply(
    loraGradients,
    { x, dy, a: params.a, b: params.b, grad_a: grads.a, grad_b: grads.b },
    params.attrs,
  );
}
