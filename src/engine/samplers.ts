/** The samplers that live: of base models, of snapshots, of checkpoints. */
import type { SamplerInfo } from '../api/contract/backend';
import { AbortedError, NotFoundError } from '../api/contract/errors';
import type { Epoch } from './recovery';
import { Sampler, type SamplerAdapter } from './sampler';
import type { Scheduler } from './scheduler';
import type { SharedBase } from './shared-base';

interface Entry {
  readonly sampler: Sampler;
  readonly shared: SharedBase;
  readonly info: SamplerInfo;
}

export class Samplers {
  readonly #entries = new Map<string, Entry>();

  constructor(private readonly scheduler: Scheduler) {}

  /** @param adapter null: the base model alone. @throws OutOfMemoryError */
  async add(
    epoch: Epoch,
    samplerId: string,
    shared: SharedBase,
    adapter: SamplerAdapter | null,
    modelPath: string | null,
  ): Promise<SamplerInfo> {
    const layout = adapter?.layout ?? null;
    shared.retain(layout);
    try {
      const sampler = new Sampler(samplerId, shared, adapter);
      await sampler.place(epoch);
      epoch.check();
      const info = { samplerId, baseModel: shared.base.name, modelPath };
      this.#entries.set(samplerId, { sampler, shared, info });
      return info;
    } catch (error) {
      await shared.release(layout);
      throw error;
    }
  }

  /** @throws NotFoundError */
  get(samplerId: string): Sampler {
    return this.#get(samplerId).sampler;
  }

  /** @throws NotFoundError */
  info(samplerId: string): SamplerInfo {
    return this.#get(samplerId).info;
  }

  /**
   * Frees a sampler; what it has not done yet rejects.
   * @param quiet resolves when samplers are not being put on another device
   * @throws NotFoundError
   */
  async remove(samplerId: string, quiet: () => Promise<void>): Promise<void> {
    const { sampler, shared } = this.#get(samplerId);
    this.#entries.delete(samplerId);
    const reason = new AbortedError(`sampler ${samplerId} was unloaded before this request was done`);
    this.scheduler.clear(samplerId, reason);
    sampler.abandon(reason);
    await this.scheduler.run(samplerId, async () => {
      await quiet();
      sampler.dispose();
      await shared.release(sampler.adapter?.layout ?? null);
    });
  }

  /** Goes on with all of them on another device. */
  async replace(epoch: Epoch): Promise<void> {
    for (const { sampler } of this.#entries.values()) await sampler.place(epoch);
  }

  /** Ids of one session's, oldest first. */
  ofSession(sessionId: string): string[] {
    return [...this.#entries.keys()].filter((id) => id.startsWith(`${sessionId}:`));
  }

  get count(): number {
    return this.#entries.size;
  }

  clear(): void {
    this.#entries.clear();
  }

  #get(samplerId: string): Entry {
    const entry = this.#entries.get(samplerId);
    if (!entry) throw new NotFoundError(`unknown sampler ${samplerId}`);
    return entry;
  }
}
