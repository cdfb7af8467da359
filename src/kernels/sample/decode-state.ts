/**
 * Where the decoding loop keeps its state on the device: one u32 buffer, written by
 * `sample` and read by the other kernels of the next pass through views, so that the
 * same launches can be replayed without the host.
 */

/** Cache row that means "append nothing". */
export const NO_ROW = 0xffffffff;

/** Values of `done`. */
export const DONE = { running: 0, stop: 1, length: 2 } as const;

/**
 * Offsets, in elements, of the arrays in the state buffer; each begins at a multiple of 64, as views must.
 * All u32; B is the capacity.
 */
export interface DecodeStateLayout {
  /** (B) the token that the next pass reads */
  readonly tokens: number;
  /** (B) its position in its sequence = prefix_len + own_len before it was appended */
  readonly positions: number;
  /** (B) the cache row where the next pass appends its key and value, or `NO_ROW` */
  readonly rows: number;
  /** (B, 4) [prefix_start, prefix_len, own_start, own_len]: the cache rows to attend to, the new one included */
  readonly slots: number;
  /** (B) tokens sampled so far: entries of this sample's outputs that are valid */
  readonly steps: number;
  /** (B) a value of `DONE`; the host may set it between submits to end a sample */
  readonly done: number;
  /** (B) the sample's index in its request: a counter word of its random draws */
  readonly indices: number;
  /** elements from one (B) array to the next: B rounded up to 64 */
  readonly stride: number;
  /** elements of the whole buffer */
  readonly length: number;
}

/** The layout for `capacity` samples side by side. */
export function decodeStateLayout(capacity: number): DecodeStateLayout {
  const stride = Math.ceil(capacity / 64) * 64;
  return {
    tokens: 0,
    positions: stride,
    rows: 2 * stride,
    slots: 3 * stride,
    steps: 7 * stride,
    done: 8 * stride,
    indices: 9 * stride,
    stride,
    length: 10 * stride,
  };
}

/** What the host says of one sample before its first token is drawn. */
export interface DecodeStart {
  /** index in its request */
  readonly index: number;
  /** cache rows shared with the other samples (the prompt) */
  readonly prefixStart: number;
  /** positions in the prompt */
  readonly prefixLength: number;
  /** first of the rows the sample may append to (`max_steps` − 1 are written at most) */
  readonly ownStart: number;
}

/** The state buffer's contents before the first `sample`; samples beyond `starts` are marked done. */
export function initialDecodeState(
  capacity: number,
  starts: readonly DecodeStart[],
): Uint32Array<ArrayBuffer> {
  const layout = decodeStateLayout(capacity);
  if (starts.length > capacity)
    throw new RangeError(`${starts.length} samples do not fit in ${capacity} places`);
  const state = new Uint32Array(layout.length);
  state.fill(NO_ROW, layout.rows, layout.rows + layout.stride);
  state.fill(DONE.length, layout.done, layout.done + layout.stride);
  starts.forEach((s, b) => {
    state.set([s.prefixStart, s.prefixLength, s.ownStart, 0], layout.slots + 4 * b);
    state[layout.indices + b] = s.index;
    state[layout.done + b] = DONE.running;
  });
  return state;
}
