/** A store with many checkpoints, and how long it takes to list them. */
import { Catalog } from '../../../src/checkpoints/catalog';
import type { CheckpointRecord } from '../../../src/checkpoints/catalog-types';
import type { JsonRecord, Store } from '../../../src/checkpoints/store';
import { sample } from './samples';

/** Records by key, as `save` writes them; their files are not needed to list them. */
export function manyRecords(count: number): Map<string, JsonRecord> {
  const { adapter } = sample(0);
  const records = new Map<string, JsonRecord>();
  for (let i = 0; i < count; i++) {
    const trainingRunId = `${crypto.randomUUID()}:train:${i % 10}`;
    const record: CheckpointRecord = {
      format: 1,
      trainingRunId,
      checkpointType: 'training',
      name: `step-${i}`,
      time: new Date(1.9e12 + i * 1000).toISOString(),
      public: false,
      expiresAt: null,
      folder: crypto.randomUUID(),
      files: ['adapter_model.safetensors', 'adapter_config.json', 'optimizer.safetensors'].map((name) => ({
        name,
        bytes: 1_000_000,
        sha256: 'ab'.repeat(32),
      })),
      adapter,
      step: i,
    };
    records.set(`${trainingRunId}/weights/step-${i}`, { ...record });
  }
  return records;
}

/** Lists them all by a catalog that has just been opened. */
export async function listMany(
  open: () => Promise<Store>,
): Promise<{ count: number; ordered: boolean; firstMs: number; restMs: number }> {
  let start = performance.now();
  const since = (): number => Math.round(performance.now() - start);
  const catalog = await Catalog.open(await open());
  const first = await catalog.listUserCheckpoints({ limit: 1000, offset: 0 });
  const firstMs = since();
  await catalog.swept;
  start = performance.now();
  const all = [...first.checkpoints];
  for (let offset = 1000; offset < first.cursor!.totalCount; offset += 1000) {
    all.push(...(await catalog.listUserCheckpoints({ limit: 1000, offset })).checkpoints);
  }
  const restMs = since();
  await catalog.close();
  const ids = all.map(({ checkpointId }) => checkpointId);
  const ordered = ids.every((id, i) => id === `weights/step-${ids.length - 1 - i}`);
  return { count: ids.length, ordered, firstMs, restMs };
}
