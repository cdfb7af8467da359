/** The seven training examples of the Tinker documentation, and the one it tries afterwards. */
import { Datum, ModelInput, type Tokenizer } from '../src/index';

export interface Example {
  readonly english: string;
  readonly pigLatin: string;
}

export const EXAMPLES: readonly Example[] = [
  { english: 'banana split', pigLatin: 'anana-bay plit-say' },
  { english: 'quantum physics', pigLatin: 'uantum-qay ysics-phay' },
  { english: 'donut shop', pigLatin: 'onut-day op-shay' },
  { english: 'pickle jar', pigLatin: 'ickle-pay ar-jay' },
  { english: 'space exploration', pigLatin: 'ace-spay exploration-way' },
  { english: 'rubber duck', pigLatin: 'ubber-ray uck-day' },
  { english: 'coding wizard', pigLatin: 'oding-cay izard-way' },
];

/** Never trained on. */
export const HELD_OUT: Example = { english: 'coffee break', pigLatin: 'offee-cay eak-bray' };

/** What the model reads before it answers. */
export function promptOf(english: string): string {
  return `English: ${english}\nPig Latin:`;
}

/** A training example in numbers: N inputs, N targets (the inputs shifted by one), N weights. */
export interface TokenRows {
  readonly inputs: number[];
  readonly targets: number[];
  /** 1 where the target belongs to the answer, 0 in the prompt */
  readonly weights: number[];
}

/** Tokens, shifted targets and weights of one example. */
export function rowsOf(example: Example, tokenizer: Tokenizer): TokenRows {
  const prompt = tokenizer.encode(promptOf(example.english), { add_special_tokens: true });
  // a space before the answer, and a double newline to end it
  const answer = tokenizer.encode(` ${example.pigLatin}\n\n`, { add_special_tokens: false });
  const tokens = [...prompt, ...answer];
  const weights = [...prompt.map(() => 0), ...answer.map(() => 1)];
  return { inputs: tokens.slice(0, -1), targets: tokens.slice(1), weights: weights.slice(1) };
}

export function datumOf({ inputs, targets, weights }: TokenRows): Datum {
  return new Datum({
    modelInput: ModelInput.fromInts(inputs),
    lossFnInputs: { weights, target_tokens: targets },
  });
}
