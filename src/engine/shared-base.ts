/**
 * A base model with what its clients share: decode contexts, and for each layout
 * of adapters the merged weights and the plans. What is of one layout is kept for
 * as long as a model or sampler of that layout lives, and freed with the last.
 */
import type { BaseModel } from './base-model';
import { DecodeContextPool } from './decode-context';
import { MergedWeights } from './merged-weights';
import type { AdapterLayout } from './program/adapter';
import type { Decode } from './tokenizer';

interface Share {
  clients: number;
  merged?: Promise<MergedWeights>;
}

/** Of clients without an adapter. */
const NO_ADAPTER = 'base';

export const layoutKey = (layout: AdapterLayout | null): string => layout?.key ?? NO_ADAPTER;

export class SharedBase {
  #base: BaseModel;
  #pool: DecodeContextPool;
  readonly #shares = new Map<string, Share>();

  constructor(
    base: BaseModel,
    readonly decode: Decode,
  ) {
    this.#base = base;
    this.#pool = new DecodeContextPool(base);
  }

  get base(): BaseModel {
    return this.#base;
  }

  get pool(): DecodeContextPool {
    return this.#pool;
  }

  /** Goes on with the same model on another device; what was on the one before is gone. */
  replace(base: BaseModel): void {
    this.#base = base;
    this.#pool = new DecodeContextPool(base);
    for (const share of this.#shares.values()) delete share.merged;
  }

  /** whether it has clients */
  get used(): boolean {
    return this.#shares.size > 0;
  }

  /** Counts one more client of a layout. */
  retain(layout: AdapterLayout | null): void {
    const key = layoutKey(layout);
    const share = this.#shares.get(key);
    if (share) share.clients++;
    else this.#shares.set(key, { clients: 1 });
  }

  /** Counts one client less, and after the last frees what was of that layout alone. */
  async release(layout: AdapterLayout | null): Promise<void> {
    const key = layoutKey(layout);
    const share = this.#shares.get(key)!;
    if (--share.clients > 0) return;
    this.#shares.delete(key);
    // all begun before anything is awaited: a new client of the layout gets its own
    await Promise.all([
      this.pool.forget(layout),
      this.base.plans.dispose((plan) => plan.endsWith(`/${key}`)),
      // a merge that failed left nothing
      share.merged?.then(
        (merged) => merged.dispose(),
        () => undefined,
      ),
    ]);
  }

  /** The weights that adapters of a layout are merged into; the caller has retained it. */
  merged(layout: AdapterLayout): Promise<MergedWeights> {
    const share = this.#shares.get(layoutKey(layout))!;
    const merged = (share.merged ??= MergedWeights.create(this.base, layout));
    merged.catch(() => {
      // the next request tries again
      if (share.merged === merged) delete share.merged;
    });
    return merged;
  }
}
