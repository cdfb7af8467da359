/** Several tabs or processes on one store. */
import { NotFoundError } from '../../../src/api/contract/errors';
import { Catalog } from '../../../src/checkpoints/catalog';
import { equal } from '../support/check';
import { pathOf, sample, sameAdapter } from '../support/samples';
import { page, type StoreCases } from './cases';

export const together: StoreCases = {
  'stays whole when two write, replace, read and delete the same names': async (open) => {
    const stores = await Promise.all([open(), open()]);
    const catalogs = await Promise.all(stores.map((store) => Catalog.open(store)));
    const saved = new Map(
      [100, 200].flatMap((at) =>
        Array.from({ length: 12 }, (_, i) => [
          at + i,
          sample(at + i, { name: `x${i % 2}`, overwrite: true }),
        ]),
      ),
    );
    const work = async (catalog: Catalog, first: number): Promise<void> => {
      for (let i = 0; i < 12; i++) {
        const mine = saved.get(first + i)!;
        await catalog.save(mine);
        try {
          const loaded = await catalog.load(pathOf(mine), { optimizer: true });
          // whose it is shows in its step
          sameAdapter(loaded, saved.get(loaded.record.step)!);
          if (i % 4 === 3) await catalog.delete(pathOf(mine));
        } catch (error) {
          // the other has just deleted it
          if (!(error instanceof NotFoundError)) throw error;
        }
      }
    };
    const opening = Promise.all(
      Array.from({ length: 8 }, async () => (await Catalog.open(await open())).swept),
    );
    await Promise.all([work(catalogs[0]!, 100), work(catalogs[1]!, 200), opening]);
    const left = (await catalogs[0]!.listUserCheckpoints(page)).checkpoints;
    for (const { tinkerPath } of left) {
      const loaded = await catalogs[1]!.load(tinkerPath, { optimizer: true });
      sameAdapter(loaded, saved.get(loaded.record.step)!);
    }
    equal(await (await Catalog.open(await open())).swept, { orphans: 0, expired: 0 }, 'swept');
    equal((await stores[0].listFolders()).length, left.length, 'folders');
  },
};
