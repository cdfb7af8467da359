/** The contract of stores, on those that Node has. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, test } from 'vitest';
import { MemoryStore } from '../../../src/checkpoints/memory-store';
import { FolderStore } from '../../../src/checkpoints/node/folder-store';
import { storeContract } from '../../checkpoints/store-contract';

let root: string;
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'webtinker-store-'));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

describe.each(Object.entries(storeContract))('%s', (_name, run) => {
  test('in a folder', () => {
    const folder = mkdtempSync(join(root, 'case-'));
    return run(() => FolderStore.open(folder));
  });

  test('in memory', () => {
    const store = new MemoryStore();
    return run(async () => store);
  });
});
