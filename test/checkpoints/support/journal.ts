/**
 * For crash tests: a loop that saves, replaces, changes and deletes, and says
 * what it does before and after; and the judge of what is found when it died.
 */
import { NotFoundError } from '../../../src/api/contract/errors';
import type { Catalog } from '../../../src/checkpoints/catalog';
import { ok } from './check';
import { pathOf, sample, sameAdapter } from './samples';

/** `begin` comes before anything is done, `end` when its promise has resolved. */
export type Event = readonly ['begin' | 'end', 'save' | 'delete', name: string, seed: number];

const NAMES = 5;
const options = (name: string): { name: string; overwrite: true } => ({ name, overwrite: true });

function unlessMissing(error: unknown): void {
  if (!(error instanceof NotFoundError)) throw error;
}

/**
 * Saves and deletes under five names of its own, until it is killed or `count` is reached.
 * What `report` gives is awaited: nothing begins before it was heard.
 */
export async function churn(
  catalog: Catalog,
  lane: string,
  first: number,
  report: (event: Event) => unknown,
  count = Infinity,
): Promise<void> {
  for (let seed = first; seed < first + count; seed++) {
    const name = `${lane}-${seed % NAMES}`;
    const path = pathOf(sample(seed, { name }));
    if (seed % 7 === 6) {
      await report(['begin', 'delete', name, seed]);
      // nothing of that name was saved yet, or it is deleted
      await catalog.delete(path).catch(unlessMissing);
      await report(['end', 'delete', name, seed]);
      continue;
    }
    await report(['begin', 'save', name, seed]);
    await catalog.save(sample(seed, options(name)));
    await report(['end', 'save', name, seed]);
    // another may have deleted it already
    if (seed % 3 === 0) await catalog.setTtl(path, 1e6).catch(unlessMissing);
  }
}

/** What must be found, from what was reported. */
export class Judge {
  /** seed by name, of what was reported saved and not deleted */
  readonly #saved = new Map<string, number>();
  /** what had begun and not ended, when its writer died */
  #open: Event | undefined;
  /** checkpoints that were reported saved, in all */
  reported = 0;

  hear(event: Event): void {
    const [when, what, name, seed] = event;
    this.#open = when === 'begin' ? event : undefined;
    if (when === 'begin') return;
    if (what === 'delete') this.#saved.delete(name);
    else {
      this.#saved.set(name, seed);
      this.reported++;
    }
  }

  /** Loads everything that is visible under the names of `lane`; returns how many there are. */
  async check(catalog: Catalog, lane: string): Promise<number> {
    const list = await catalog.listUserCheckpoints({ limit: 1000, offset: 0 });
    const found = new Map<string, number>();
    for (const { tinkerPath, checkpointId } of list.checkpoints) {
      const name = checkpointId.slice('weights/'.length);
      if (!name.startsWith(`${lane}-`)) continue;
      const loaded = await catalog.load(tinkerPath, { optimizer: true });
      sameAdapter(loaded, sample(loaded.record.step, options(name)));
      found.set(name, loaded.record.step);
    }
    const open = this.#open;
    this.#open = undefined;
    for (const name of new Set([...found.keys(), ...this.#saved.keys()])) {
      const is = found.get(name);
      if (is === this.#saved.get(name)) continue;
      // the one in flight may have come to its end unreported
      const done = open?.[2] === name && is === (open[1] === 'save' ? open[3] : undefined);
      ok(done, `${name} is ${is}, reported ${this.#saved.get(name)}, in flight ${JSON.stringify(open)}`);
      if (is === undefined) this.#saved.delete(name);
      else this.#saved.set(name, is);
    }
    return found.size;
  }
}
