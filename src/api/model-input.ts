/** What a model reads: an immutable sequence of chunks. This release has text chunks only. */

/** A run of token ids. */
export interface EncodedTextChunk {
  readonly type: 'encoded_text';
  readonly tokens: readonly number[];
}

export type ModelInputChunk = EncodedTextChunk;

export class ModelInput {
  readonly chunks: readonly ModelInputChunk[];

  /** @param chunks copied; later changes to the array have no effect */
  constructor({ chunks }: { chunks: Iterable<ModelInputChunk> }) {
    this.chunks = Object.freeze(
      Array.from(chunks, ({ type, tokens }) => Object.freeze({ type, tokens: Object.freeze([...tokens]) })),
    );
  }

  /** One text chunk of these token ids, `(N)`. */
  static fromInts(tokens: Iterable<number>): ModelInput {
    return new ModelInput({ chunks: [{ type: 'encoded_text', tokens: [...tokens] }] });
  }

  /** No chunks at all; something to append to. */
  static empty(): ModelInput {
    return new ModelInput({ chunks: [] });
  }

  /** All token ids, `(length)`. */
  toInts(): number[] {
    return this.chunks.flatMap((chunk) => chunk.tokens);
  }

  /** Number of tokens. */
  get length(): number {
    return this.chunks.reduce((n, chunk) => n + chunk.tokens.length, 0);
  }

  /** A new input with `chunk` at the end. */
  append(chunk: ModelInputChunk): ModelInput {
    return new ModelInput({ chunks: [...this.chunks, chunk] });
  }

  /** A new input with one more token, put into the last text chunk. */
  appendInt(token: number): ModelInput {
    const last = this.chunks.at(-1);
    if (!last) return ModelInput.fromInts([token]);
    const grown: EncodedTextChunk = { type: 'encoded_text', tokens: [...last.tokens, token] };
    return new ModelInput({ chunks: [...this.chunks.slice(0, -1), grown] });
  }
}
