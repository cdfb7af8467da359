/** What the attention ops share: how the stacked qkv rows are divided into heads. */
import { fixed, type TensorRef } from '../op';

export interface HeadAttrs {
  /** query heads */
  readonly heads: number;
  /** key and value heads; divides `heads` */
  readonly kvHeads: number;
  /** features of a head; even, at most 256 */
  readonly headDim: number;
}

export interface AttentionAttrs extends HeadAttrs {
  /** factor of the scores; default 1/√headDim */
  readonly scale?: number | undefined;
}

/** Throws unless qkv is (rows, (heads + 2·kvHeads)·headDim) with sizes the kernels can take. */
export function checkHeads(qkv: TensorRef, { heads, kvHeads, headDim }: HeadAttrs): void {
  const width = fixed(qkv.shape[1], 'width of qkv');
  if (headDim % 2 !== 0 || headDim < 2 || headDim > 256) {
    throw new Error(`attention: head dimension ${headDim} must be even and between 2 and 256`);
  }
  if (heads % kvHeads !== 0) {
    throw new Error(`attention: ${heads} query heads cannot share ${kvHeads} key heads evenly`);
  }
  if (width !== (heads + 2 * kvHeads) * headDim) {
    throw new Error(
      `attention: qkv has ${width} columns, not (${heads} + 2·${kvHeads}) heads of ${headDim} features`,
    );
  }
}

/** The factor of the scores. */
export const scaleOf = ({ headDim, scale }: AttentionAttrs): number => scale ?? 1 / Math.sqrt(headDim);
