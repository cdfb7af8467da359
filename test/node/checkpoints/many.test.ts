/** Ten thousand checkpoints, listed by a catalog that has just been opened. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { FolderStore } from '../../../src/checkpoints/node/folder-store';
import { fileName, fileText } from '../../../src/checkpoints/node/record-files';
import { listMany, manyRecords } from '../../checkpoints/support/many';

const folder = mkdtempSync(join(tmpdir(), 'webtinker-many-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test('ten thousand checkpoints are listed page by page', async () => {
  await (await FolderStore.open(folder)).close();
  for (const [key, value] of manyRecords(10_000)) {
    writeFileSync(join(folder, 'records/checkpoints', fileName(key)), fileText(key, value));
  }
  const { count, ordered, firstMs, restMs } = await listMany(() => FolderStore.open(folder));
  console.log(`10,000 in a folder: first page of a thousand ${firstMs} ms, the nine others ${restMs} ms`);
  expect(count).toBe(10_000);
  expect(ordered).toBe(true);
});
