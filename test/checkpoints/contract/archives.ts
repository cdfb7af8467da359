/** Checkpoints that leave and come back. */
import { BadRequestError } from '../../../src/api/contract/errors';
import { Catalog } from '../../../src/checkpoints/catalog';
import { equal, ok, rejects, sameBits } from '../support/check';
import { pathOf, RUN, sample, sameAdapter } from '../support/samples';
import { page, type StoreCases } from './cases';

export const archives: StoreCases = {
  'packs an adapter, and takes it in again as a run of its own': async (open) => {
    const catalog = await Catalog.open(await open());
    const saved = sample(1);
    await catalog.save(saved);
    const archive = await catalog.archive(pathOf(saved));
    ok(archive.size % 512 === 0, 'a tar is made of blocks');
    const imported = await catalog.import({ sessionId: 's', source: archive, name: 'in', baseModel: null });
    const record = await catalog.find(imported.tinkerPath);
    ok(record.trainingRunId !== RUN, 'it is of another run');
    equal(record.checkpointType, 'training', 'type');
    const loaded = await catalog.load(imported.tinkerPath, { optimizer: false });
    sameAdapter(loaded, { ...saved, optimizer: null });
    await rejects(
      catalog.load(imported.tinkerPath, { optimizer: true }),
      BadRequestError,
      /no optimizer state/,
    );
    equal(
      (await catalog.listRuns(page)).trainingRuns.map((run) => run.trainingRunId),
      [record.trainingRunId],
      'runs',
    );
    equal(await catalog.runsOfSession('s'), [record.trainingRunId], 'runs of the session');
    // nothing of it shares memory with what was saved
    saved.matrices.get('lm_head.lora_A')!.data.fill(0);
    const again = await catalog.load(imported.tinkerPath, { optimizer: false });
    sameBits(
      again.matrices.get('lm_head.lora_A')!.data,
      sample(1).matrices.get('lm_head.lora_A')!.data,
      'lm_head',
    );
    // a run without its checkpoint is not left behind
    await rejects(
      catalog.import({ sessionId: 's', source: archive, name: 'a/b', baseModel: null }),
      BadRequestError,
      /name/,
    );
    equal((await catalog.listRuns(page)).cursor.totalCount, 1, 'runs');
  },
};
