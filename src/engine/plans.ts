/** Compiled plans by kind, grown to the largest batch seen. */
import type { RunValues } from '../kernels/op';
import { Plan, type GpuContext } from './devices/webgpu/plan';
import type { Trace } from './trace';

/** The next size of the form 2^k or 3·2^(k−1), at least 64: growth steps of a third to a half. */
export function bucket(n: number, least = 64): number {
  let size = least;
  while (size < n) {
    if (size * 1.5 >= n) return size * 1.5;
    size *= 2;
  }
  return size;
}

interface Entry {
  readonly capacity: RunValues;
  readonly plan: Promise<Plan>;
}

export class PlanCache {
  readonly #entries = new Map<string, Entry>();

  constructor(readonly context: GpuContext) {}

  /**
   * The plan of `key`, compiled if there is none with room for `sizes`. A
   * larger plan replaces the smaller one, whose memory is freed.
   */
  get(key: string, trace: () => Trace, sizes: RunValues = {}): Promise<Plan> {
    const old = this.#entries.get(key);
    if (old && Object.entries(sizes).every(([name, n]) => n <= old.capacity[name]!)) return old.plan;
    const capacity = Object.fromEntries(
      Object.entries(sizes).map(([name, n]) => [name, bucket(Math.max(n, old?.capacity[name] ?? 0))]),
    );
    const entry: Entry = { capacity, plan: this.#replace(key, old, trace, capacity) };
    this.#entries.set(key, entry);
    return entry.plan;
  }

  async #replace(
    key: string,
    old: Entry | undefined,
    trace: () => Trace,
    capacity: RunValues,
  ): Promise<Plan> {
    try {
      const plan = await Plan.compile(this.context, trace(), capacity);
      (await old?.plan)?.dispose();
      return plan;
    } catch (error) {
      // the next request tries again
      this.#entries.delete(key);
      throw error;
    }
  }

  /** Forgets what was bound under `key` in every plan. */
  async unbind(key: string): Promise<void> {
    for (const { plan } of this.#entries.values()) (await plan).unbind(key);
  }

  /** Frees the plans' memory. */
  async dispose(): Promise<void> {
    const plans = [...this.#entries.values()];
    this.#entries.clear();
    for (const { plan } of plans) (await plan).dispose();
  }
}
