/** Compiled plans by kind, grown to the largest batch seen. */
import type { RunValues } from '../kernels/op';
import type { Buffers, Device, Plan } from './devices/device';
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
  /** the largest that is compiled */
  readonly #ready = new Map<string, Plan>();

  constructor(
    readonly device: Device,
    /** frozen weights, by state name */
    private readonly constants: Buffers,
  ) {}

  /**
   * Sees that there is a plan of `key` with room for `sizes`, compiling one if
   * need be. A larger plan replaces the smaller one, whose memory is freed: take
   * the plan from `ready` in the very moment it is run.
   */
  async prepare(key: string, trace: () => Trace, sizes: RunValues = {}): Promise<void> {
    const old = this.#entries.get(key);
    if (old && Object.entries(sizes).every(([name, n]) => n <= old.capacity[name]!)) {
      await old.plan;
      return;
    }
    const capacity = Object.fromEntries(
      Object.entries(sizes).map(([name, n]) => [name, bucket(Math.max(n, old?.capacity[name] ?? 0))]),
    );
    const entry: Entry = { capacity, plan: this.#replace(key, old, trace, capacity) };
    this.#entries.set(key, entry);
    entry.plan.catch(() => {
      // the next request tries again
      if (this.#entries.get(key) === entry) this.#entries.delete(key);
    });
    await entry.plan;
  }

  /** The plan that was prepared. */
  ready(key: string): Plan {
    const plan = this.#ready.get(key);
    if (!plan) throw new Error(`plan ${key} was not prepared`);
    return plan;
  }

  async #replace(
    key: string,
    old: Entry | undefined,
    trace: () => Trace,
    capacity: RunValues,
  ): Promise<Plan> {
    const [plan] = await Promise.all([
      this.device.compile(trace(), { capacity, constants: this.constants }),
      // that one may still compile
      old?.plan.catch(() => undefined),
    ]);
    this.#ready.get(key)?.dispose();
    this.#ready.set(key, plan);
    return plan;
  }

  /** Forgets what was bound under `key` in every plan. */
  unbind(key: string): void {
    for (const plan of this.#ready.values()) plan.unbind(key);
  }

  /** Frees the plans whose keys `match`; nobody may use them any more. */
  async dispose(match: (key: string) => boolean = () => true): Promise<void> {
    const keys = [...new Set([...this.#entries.keys(), ...this.#ready.keys()])].filter(match);
    const entries = keys.map((key) => this.#entries.get(key));
    for (const key of keys) this.#entries.delete(key);
    await Promise.allSettled(entries.flatMap((entry) => entry?.plan ?? []));
    for (const key of keys) {
      // unless it was made anew meanwhile
      if (this.#entries.has(key)) continue;
      this.#ready.get(key)?.dispose();
      this.#ready.delete(key);
    }
  }
}
