/** The tokenizer users get, from the embedded model's files. */
import { expect, it } from 'vitest';
import pocketConfig from '../../models/pocket/tokenizer_config.json';
import pocket from '../../models/pocket/tokenizer.json';
import type { Backend } from '../../src/api/contract/backend';
import { NotFoundError } from '../../src/api/contract/errors';
import { loadTokenizer } from '../../src/api/tokenizer';

let asked = 0;
const backend = {
  getTokenizer: (baseModel: string) => {
    asked++;
    if (baseModel !== 'webtinker/pocket') return Promise.reject(new NotFoundError(`model ${baseModel}`));
    return Promise.resolve({ tokenizerJson: pocket, tokenizerConfig: pocketConfig });
  },
} as unknown as Backend;

it('encodes, decodes and applies the chat template', async () => {
  const tokenizer = await loadTokenizer(backend, 'webtinker/pocket');
  const text = 'English: coffee break\nPig Latin: ☕';
  const ids = tokenizer.encode(text, { add_special_tokens: false });
  expect(ids.length).toBe(new TextEncoder().encode(text).length);
  expect(tokenizer.decode(ids)).toBe(text);
  const chat = tokenizer.apply_chat_template([{ role: 'user', content: 'hi' }], {
    add_generation_prompt: true,
    return_tensor: false,
    return_dict: false,
  });
  expect(tokenizer.decode(chat)).toBe('<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n');
});

it('is loaded once per model, and a failure is not kept', async () => {
  const before = asked;
  const [a, b] = await Promise.all([1, 2].map(() => loadTokenizer(backend, 'webtinker/pocket')));
  expect(a).toBe(b);
  expect(asked).toBe(before);
  for (let i = 1; i <= 2; i++) {
    await expect(loadTokenizer(backend, 'no/model')).rejects.toThrow(NotFoundError);
    expect(asked).toBe(before + i);
  }
});
