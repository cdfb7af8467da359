/** Stop strings are found in the text, wherever token boundaries fall. */
import { describe, expect, it } from 'vitest';
import pocketConfig from '../../models/pocket/tokenizer_config.json';
import pocket from '../../models/pocket/tokenizer.json';
import { decoderOf, StopMatcher, type Decode } from '../../src/engine/tokenizer';

/** A tokenizer with these pieces, written as bytes: token i is `pieces[i]`. */
function piecesDecoder(pieces: readonly (string | readonly number[])[]): Decode {
  const bytes = pieces.map((piece) =>
    typeof piece === 'string' ? [...new TextEncoder().encode(piece)] : piece,
  );
  return (tokens) => new TextDecoder().decode(Uint8Array.from(tokens.flatMap((token) => [...bytes[token]!])));
}

/** Index of the token that completes a match; -1 if none does. */
function stopsAt(decode: Decode, tokens: readonly number[], ...stops: string[]): number {
  const matcher = new StopMatcher(decode, stops);
  return tokens.findIndex((token) => matcher.push(token));
}

/** What the matcher must equal: the whole text decoded again after each token. */
const slowStopsAt = (decode: Decode, tokens: readonly number[], ...stops: string[]): number =>
  tokens.findIndex((_, i) => stops.some((stop) => decode(tokens.slice(0, i + 1)).includes(stop)));

describe('with pieces', () => {
  const decode = piecesDecoder(['a', 'ab', '\n', '\n\nUs', 'er:', 'xx\n\nUser: yes']);
  it.each([
    ['inside one token', [0, 5, 0], ['\n\nUser:'], 1],
    ['across two', [0, 3, 4, 0], ['\n\nUser:'], 2],
    ['across single newlines', [2, 0, 2, 2], ['\n\n'], 3],
    ['at the first token', [2], ['\n'], 0],
    ['the earlier of two', [0, 1, 2], ['\n', 'aa'], 1],
    ['a stop of one character', [1, 0], ['b'], 0],
    ['nothing', [0, 1, 0], ['\n'], -1],
    ['nothing when there are no stops', [0, 1, 0], [], -1],
  ] as [string, number[], string[], number][])('finds %s', (_, tokens, stops, at) => {
    expect(stopsAt(decode, tokens, ...stops)).toBe(at);
  });
});

describe('with the bytes of characters split over tokens', () => {
  const euro = [0xe2, 0x82, 0xac];
  const decode = piecesDecoder([[euro[0]!], [euro[1]!], [euro[2]!], 'a', [0x62, euro[0]!], [0xff], '😀']);
  it.each([
    ['after the last byte of a character', [3, 0, 1, 2], ['€'], 3],
    ['after a split character', [0, 1, 2, 3], ['€a'], 3],
    ['before a character that is not complete yet', [3, 4, 1, 2], ['ab'], 1],
    ['after bytes that are never a character', [5, 5, 3, 3], ['aa'], 3],
    ['a pair of surrogates', [3, 6], ['😀'], 1],
  ] as [string, number[], string[], number][])('finds %s', (_, tokens, stops, at) => {
    expect(stopsAt(decode, tokens, ...stops)).toBe(at);
  });
});

describe('with the tokenizer of the embedded model', () => {
  const decode = decoderOf({ tokenizerJson: pocket, tokenizerConfig: pocketConfig });
  const vocabulary = new Map(Object.entries(pocket.model.vocab as Record<string, number>));

  it('decodes bytes and special tokens', () => {
    const ids = [...'Hi'].map((c) => vocabulary.get(c)!);
    expect(decode(ids)).toBe('Hi');
    expect(decode([258])).toBe('<|im_end|>');
    expect(decode([])).toBe('');
  });

  it('finds special tokens by their text', () => {
    expect(stopsAt(decode, [vocabulary.get('a')!, 258], '<|im_end|>')).toBe(1);
  });

  it('equals decoding everything again, on random tokens', () => {
    let state = 1;
    const random = (n: number): number => (state = (state * 48271) % 2147483647) % n;
    let found = 0;
    for (let round = 0; round < 150; round++) {
      const tokens = Array.from({ length: 40 }, () => random(264));
      const text = decode(tokens);
      const start = random(text.length);
      const stop = text.slice(start, start + 1 + random(4));
      // a stop that holds the sign for broken bytes has no exact meaning
      if (stop === '' || stop.includes('\uFFFD')) continue;
      const at = slowStopsAt(decode, tokens, stop);
      expect([stop, stopsAt(decode, tokens, stop)]).toEqual([stop, at]);
      found++;
    }
    expect(found).toBeGreaterThan(40);
  });
});

it('sees the space that a decoder drops at the start of a text', () => {
  // sentencepiece style: a leading space belongs to the token, except at the very start
  const pieces = ['▁Hello', '▁world', '▁', 's'];
  const decode: Decode = (tokens) =>
    tokens
      .map((t) => pieces[t])
      .join('')
      .replaceAll('▁', ' ')
      .replace(/^ /, '');
  expect(stopsAt(decode, [0, 1, 0], 'o world')).toBe(1);
  expect(stopsAt(decode, [0, 0, 1], ' world')).toBe(2);
  expect(stopsAt(decode, [1, 3], ' world')).toBe(-1);
});
