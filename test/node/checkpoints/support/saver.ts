/** A process that saves until it is killed: `node saver.js FOLDER LANE FIRST_SEED [COUNT]`, events on stdout. */
import { writeSync } from 'node:fs';
import { Catalog } from '../../../../src/checkpoints/catalog';
import { FolderStore } from '../../../../src/checkpoints/node/folder-store';
import { churn } from '../../../checkpoints/support/journal';

const [folder, lane, first, count] = process.argv.slice(2);
const report = (what: unknown): unknown => writeSync(1, `${JSON.stringify(what)}\n`);
report('ready');
try {
  const catalog = await Catalog.open(await FolderStore.open(folder!));
  await churn(catalog, lane!, Number(first), report, count === undefined ? Infinity : Number(count));
  await catalog.close();
} catch (error) {
  const { name, message } = error as Error;
  report({ name, message });
  process.exitCode = 1;
}
