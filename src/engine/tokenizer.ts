/** Text in the worker: the engine needs it only to find stop strings. */
import { Tokenizer } from '@huggingface/tokenizers';
import type { TokenizerPayload } from '../api/contract/types';

/** Token ids to text. Special tokens are part of it. */
export type Decode = (tokens: readonly number[]) => string;

/** A model's decoder, from its tokenizer files. */
export function decoderOf({ tokenizerJson, tokenizerConfig }: TokenizerPayload): Decode {
  const tokenizer = new Tokenizer(tokenizerJson as object, tokenizerConfig as object);
  // the library refuses an empty list
  return (tokens) =>
    tokens.length === 0
      ? ''
      : tokenizer.decode([...tokens], { skip_special_tokens: false, clean_up_tokenization_spaces: false });
}

/** What decoders put for bytes that are not, or not yet, a character. */
const REPLACEMENT = '\uFFFD';

/**
 * Finds stop strings in the text of generated tokens, also across token
 * boundaries. Text is decoded in steps: only tokens since the last settled
 * character are decoded again, together with a few settled ones before them,
 * because a decoder may write a token differently at the start of a text.
 */
export class StopMatcher {
  readonly #decode: Decode;
  readonly #stops: readonly string[];
  /** characters of settled text that a match may begin in */
  readonly #keep: number;
  /** settled context tokens, then tokens whose text is not settled */
  #tokens: number[] = [];
  #settled = 0;
  #tail = '';

  constructor(decode: Decode, stopStrings: readonly string[]) {
    this.#decode = decode;
    this.#stops = stopStrings;
    this.#keep = Math.max(0, ...stopStrings.map((s) => s.length - 1));
  }

  /** Takes the next generated token; true when the text now contains a stop string. */
  push(token: number): boolean {
    this.#tokens.push(token);
    const context = this.#decode(this.#tokens.slice(0, this.#settled));
    const text = this.#decode(this.#tokens);
    const seen = this.#tail + text.slice(context.length);
    // an unfinished character may still change: matched as it stands, settled later
    if (!text.endsWith(REPLACEMENT) && text.length > context.length) {
      this.#tail = this.#keep === 0 ? '' : seen.slice(-this.#keep);
      this.#tokens = this.#tokens.slice(this.#settled);
      this.#settled = this.#tokens.length;
    }
    return this.#stops.some((stop) => seen.includes(stop));
  }
}
