/**
 * Log-probabilities of the targets straight from hidden states, and their backward.
 *
 * The vocabulary is walked in tiles, so that (T × vocabulary) logits never
 * exist whole: the backward pass computes each tile again, unless one tile
 * covers the vocabulary.
 */
import { loraGradients, loraMerge } from '../../kernels/lora/lora';
import { logprob as targetLogprob, logprobBackward } from '../../kernels/logprob/logprob';
import { matmul } from '../../kernels/matmul/matmul';
import type { TensorRef } from '../../kernels/op';
import { rmsnorm, rmsnormBackward } from '../../kernels/rmsnorm/rmsnorm';
import type { Trace } from '../trace';
import { linearsOf, type AdapterLayout } from './adapter';
import { frozenWeight, loraOf, normWeight, type ProgramModel } from './llama';

/** Vocabulary ids per tile; a multiple of 64 so that tiles start at an aligned offset. */
export const VOCABULARY_TILE = 4096;

interface Tile {
  readonly start: number;
  /** (rows, D) unembedding rows of the tile, adapter merged in */
  readonly weight: TensorRef;
}

export interface Head {
  /** (C) log p(target) */
  readonly logprob: TensorRef;
  /** (T) log-sum-exp of the logits */
  readonly lse: TensorRef;
  readonly normed: TensorRef;
  readonly rstd: TensorRef;
  readonly hidden: TensorRef;
  /** (C) */
  readonly targets: TensorRef;
  readonly tiles: readonly Tile[];
  /** (T, V): kept only when one tile covers the vocabulary */
  readonly logits: TensorRef | null;
}

/** The unembedding, tile by tile. */
function tilesOf(trace: Trace, { config, adapter }: ProgramModel): Tile[] {
  const head = linearsOf(config).at(-1)!;
  const whole = frozenWeight(trace, config, head);
  const lora = adapter && loraOf(trace, adapter, head);
  const tiles: Tile[] = [];
  for (let start = 0; start < config.vocabSize; start += VOCABULARY_TILE) {
    const rows = Math.min(VOCABULARY_TILE, config.vocabSize - start);
    let weight = trace.view(whole, start * config.hiddenSize, [rows, config.hiddenSize]);
    if (lora) {
      const b = trace.view(lora.b, start * lora.attrs.rank, [rows, lora.attrs.rank]);
      weight = trace.apply(loraMerge, { weight, a: lora.a, b }, { ...lora.attrs, groups: [rows] }).merged;
    }
    tiles.push({ start, weight });
  }
  return tiles;
}

/**
 * Final norm, unembedding, log p of `targets` (C) u32: C = T·K, the K targets of a token side by side.
 * @param each is shown the (T, rows) logits of every tile before they are given up, and the tile's first id
 */
export function headForward(
  trace: Trace,
  model: ProgramModel,
  hidden: TensorRef,
  targets: TensorRef,
  each: (logits: TensorRef, start: number) => void = () => undefined,
): Head {
  const { config } = model;
  const { y: normed, rstd } = trace.apply(
    rmsnorm,
    { x: hidden, weight: normWeight(trace, config, 'norm') },
    { eps: config.rmsNormEps },
  );
  const tiles = tilesOf(trace, model);
  let reduced: { state?: TensorRef; picked?: TensorRef; logprob?: TensorRef; lse?: TensorRef } = {};
  let logits: TensorRef | null = null;
  for (const tile of tiles) {
    logits = trace.apply(matmul, { a: normed, b: tile.weight }, { mode: 'NT' }).y;
    const { state, picked } = reduced;
    reduced = trace.apply(targetLogprob, { logits, targets, state, picked }, { start: tile.start });
    each(logits, tile.start);
  }
  const { logprob, lse } = reduced as { logprob: TensorRef; lse: TensorRef };
  return { logprob, lse, normed, rstd, hidden, targets, tiles, logits: tiles.length === 1 ? logits : null };
}

/**
 * Gradient of the loss by the hidden states, from dL/dlogprob (C); adds the
 * unembedding's LoRA gradients.
 * @returns (T, D)
 */
export function headBackward(
  trace: Trace,
  { config, adapter }: ProgramModel & { readonly adapter: AdapterLayout },
  head: Head,
  dLogprob: TensorRef,
): TensorRef {
  const linear = linearsOf(config).at(-1)!;
  const lora = loraOf(trace, adapter, linear);
  const grads = loraOf(trace, adapter, linear, 'lora.grads');
  let gradA = grads?.a;
  let dNormed: TensorRef | undefined;
  for (const { start, weight } of head.tiles) {
    const rows = weight.shape[0] as number;
    const logits = head.logits ?? trace.apply(matmul, { a: head.normed, b: weight }, { mode: 'NT' }).y;
    const { d_logits: dLogits } = trace.apply(
      logprobBackward,
      { logits, targets: head.targets, lse: head.lse, d_logprob: dLogprob },
      { start },
    );
    dNormed = trace.apply(matmul, { a: dLogits, b: weight, add: dNormed }, { mode: 'NN' }).y;
    if (lora && grads && gradA) {
      const { rank } = lora.attrs;
      gradA = trace.apply(
        loraGradients,
        {
          x: head.normed,
          dy: dLogits,
          a: lora.a,
          b: trace.view(lora.b, start * rank, [rows, rank]),
          grad_a: gradA,
          grad_b: trace.view(grads.b, start * rank, [rows, rank]),
        },
        { ...lora.attrs, groups: [rows] },
      ).grad_a;
    }
  }
  return trace.apply(
    rmsnormBackward,
    {
      x: head.hidden,
      weight: normWeight(trace, config, 'norm'),
      rstd: head.rstd,
      dy: dNormed!,
    },
    {},
  ).dx;
}
