/** The samplers that live: of base models, of snapshots, of checkpoints. */
import type { SamplerInfo } from '../api/contract/backend';
import { AbortedError, NotFoundError } from '../api/contract/errors';
import type { Device, DeviceBuffer } from './devices/device';
import type { AdapterLayout } from './program/adapter';
import { Sampler } from './sampler';
import type { Scheduler } from './scheduler';
import type { SharedBase } from './shared-base';
import type { Turns } from './turns';

interface Entry {
  readonly sampler: Sampler;
  readonly shared: SharedBase;
  readonly info: SamplerInfo;
}

/** An adapter to be sampled from: `copy` makes a buffer of its own with its flat vector. */
export interface AdapterSource {
  readonly layout: AdapterLayout;
  readonly copy: () => DeviceBuffer;
}

export class Samplers {
  readonly #entries = new Map<string, Entry>();

  constructor(
    private readonly device: Device,
    private readonly scheduler: Scheduler,
    private readonly turns: Turns,
  ) {}

  /** @throws OutOfMemoryError */
  async add(
    samplerId: string,
    shared: SharedBase,
    source: AdapterSource | null,
    modelPath: string | null,
  ): Promise<SamplerInfo> {
    const { base, pool, decode } = shared;
    const layout = source?.layout ?? null;
    shared.retain(layout);
    try {
      const adapter = source && {
        layout: source.layout,
        merged: this.device.mergesAdapters ? await shared.merged(source.layout) : null,
        params: await this.device.memory.allocate('the copy of an adapter', source.copy),
      };
      const info = { samplerId, baseModel: base.name, modelPath };
      const sampler = new Sampler(samplerId, base, adapter, pool, decode, this.turns);
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

  /** Frees a sampler; what it has not done yet rejects. @throws NotFoundError */
  async remove(samplerId: string): Promise<void> {
    const { sampler, shared } = this.#get(samplerId);
    this.#entries.delete(samplerId);
    const reason = new AbortedError(`sampler ${samplerId} was unloaded before this request was done`);
    this.scheduler.clear(samplerId, reason);
    sampler.abandon(reason);
    await this.scheduler.run(samplerId, async () => {
      sampler.dispose();
      await shared.release(sampler.adapter?.layout ?? null);
    });
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
