/** Tests of code written for Tinker, with a real model that really learns: `npx vitest run` in your project. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { BadRequestError, ServiceClient } from 'webtinker';
import { teach } from './teach.mjs';

const PAIRS = [
  ['capital of France?', 'Paris'],
  ['colour of snow?', 'white'],
];

let service;
let store;
beforeAll(() => {
  store = mkdtempSync(join(tmpdir(), 'teach-')); // what a test saves is no business of other tests
  service = new ServiceClient({ store });
});
afterAll(async () => {
  await service.dispose();
  rmSync(store, { recursive: true });
});

test('the loss falls, and the answers are learned', async () => {
  const { losses, ask } = await teach(service, PAIRS);
  expect(losses.at(-1)).toBeLessThan(losses[0] / 10);
  for (const [question, answer] of PAIRS) expect(await ask(question)).toBe(answer);
});

test('the same seed learns the same, bit for bit', async () => {
  const runs = [await teach(service, PAIRS, { steps: 3 }), await teach(service, PAIRS, { steps: 3 })];
  expect(runs[0].losses).toEqual(runs[1].losses);
});

test('a learning rate that is none is refused before anything is trained', async () => {
  await expect(teach(service, PAIRS, { learningRate: -1 })).rejects.toThrow(BadRequestError);
});
