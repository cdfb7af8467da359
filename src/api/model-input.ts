/** What a model reads: an immutable sequence of chunks. */
import { EncodedTextChunk, toChunk, type ModelInputChunk, type ModelInputChunkInit } from './chunks';
import { BadRequestError, UnsupportedError } from './contract/errors';

export class ModelInput {
  readonly chunks: readonly ModelInputChunk[];

  /**
   * @param init.chunks copied; later changes to the array have no effect
   * @throws BadRequestError on something that is no chunk
   */
  constructor({ chunks }: { readonly chunks: Iterable<ModelInputChunkInit> }) {
    this.chunks = Object.freeze(Array.from(chunks, (chunk, i) => toChunk(chunk, `model_input.chunks[${i}]`)));
  }

  /** One text chunk of these token ids, `(N)`. */
  static fromInts(tokens: Iterable<number>): ModelInput {
    return new ModelInput({ chunks: [new EncodedTextChunk({ tokens })] });
  }

  /** No chunks at all; something to append to. */
  static empty(): ModelInput {
    return new ModelInput({ chunks: [] });
  }

  /** All token ids, `(length)`. @throws BadRequestError where a chunk is not text */
  toInts(): number[] {
    return this.chunks.flatMap((chunk, i) => {
      if (chunk instanceof EncodedTextChunk) return chunk.tokens;
      throw new BadRequestError(`model_input.chunks[${i}]: ${chunk.type} has no token ids`);
    });
  }

  /** Number of tokens. @throws BadRequestError where an image does not say how many it takes */
  get length(): number {
    return this.chunks.reduce((n, chunk) => n + chunk.length, 0);
  }

  /** A new input with `chunk` at the end. */
  append(chunk: ModelInputChunkInit): ModelInput {
    return new ModelInput({ chunks: [...this.chunks, chunk] });
  }

  /** A new input with one more token, put into the last chunk where that is text. */
  appendInt(token: number): ModelInput {
    const last = this.chunks.at(-1);
    if (!(last instanceof EncodedTextChunk)) return this.append({ type: 'encoded_text', tokens: [token] });
    const grown = new EncodedTextChunk({ tokens: [...last.tokens, token] });
    return new ModelInput({ chunks: [...this.chunks.slice(0, -1), grown] });
  }
}

/** @internal the input as it crosses the seam. @throws BadRequestError on what is no ModelInput, UnsupportedError on images */
export function inputTokens(input: ModelInput, field: string): number[] {
  if (!(input instanceof ModelInput)) {
    throw new BadRequestError(`${field}: must be a ModelInput; ModelInput.fromInts makes one of token ids`);
  }
  const image = input.chunks.findIndex((chunk) => !(chunk instanceof EncodedTextChunk));
  if (image >= 0) {
    throw new UnsupportedError(
      `${field}.chunks[${image}]: images are not there in this release; the engine reads text chunks only`,
    );
  }
  return input.toInts();
}
