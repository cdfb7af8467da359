/** What the service fixes of every adapter; engine and checkpoints must agree on it. */

/** An adapter adds (LORA_ALPHA / rank)·B·A to its weight. */
export const LORA_ALPHA = 32;

/** Largest rank, a power of two as all are. */
export const MAX_RANK = 256;
