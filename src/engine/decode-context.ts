/** The memory one sampling request works in: key/value cache, device-side decode state, and the plans bound to them. */
import { decodeStateLayout } from '../kernels/sample/sample';
import type { BaseModel } from './base-model';
import type { BoundPlan, Buffers, DeviceBuffer, Plan } from './devices/device';
import { bucket, PlanCache } from './plans';
import type { AdapterLayout } from './program/adapter';
import { decodeTrace, prefillTrace, type DecodeCapacity, type SamplingModel } from './program/steps';
import type { Trace } from './trace';

const powerOfTwo = (n: number, least: number): number => 2 ** Math.ceil(Math.log2(Math.max(n, least)));

/** Capacities are coarse, so that few contexts serve many requests. */
export function decodeCapacity(batch: number, prompt: number, steps: number, stops: number): DecodeCapacity {
  return {
    batch: powerOfTwo(batch, 1),
    rows: bucket(prompt + batch * steps, 256),
    steps: bucket(steps, 32),
    stops: powerOfTwo(stops, 16),
  };
}

/** A client's adapter: its own vector, or merged into weights that all of its layout share. */
interface ClientAdapter {
  readonly params: DeviceBuffer;
  readonly merged: { readonly buffers: Buffers } | null;
}

/** The plans of one client of a context. */
interface ClientPlans {
  readonly prefill: BoundPlan;
  readonly decode: BoundPlan;
}

/** Key of what is bound to memory that all clients of a context share. */
const SHARED = 'shared';

export class DecodeContext {
  readonly #prefill: PlanCache;

  private constructor(
    readonly base: BaseModel,
    readonly adapter: AdapterLayout | null,
    readonly capacity: DecodeCapacity,
    readonly buffers: Buffers,
    private readonly decode: Plan,
  ) {
    this.#prefill = new PlanCache(base.device, base.weights);
  }

  static async create(
    base: BaseModel,
    adapter: AdapterLayout | null,
    capacity: DecodeCapacity,
  ): Promise<DecodeContext> {
    const { device, config, weights } = base;
    const { memory } = device;
    const { layers, kvHeads, headDim } = config;
    const { batch, rows, steps, stops } = capacity;
    const plan = await device.compile(decodeTrace(samplingModel(base, adapter), capacity), {
      capacity: { B: batch },
      constants: weights,
      resident: true,
    });
    const allocated = memory.allocate('the key/value cache', () => {
      const made: Record<string, DeviceBuffer> = {
        decode: memory.storage('decode.state', 4 * decodeStateLayout(batch).length),
        'out.tokens': memory.storage('decode.tokens', 4 * batch * steps),
        'out.logprobs': memory.storage('decode.logprobs', 4 * batch * steps),
        stop: memory.storage('decode.stop', 4 * stops),
      };
      for (let i = 0; i < layers; i++) {
        made[`cache.k.${i}`] = memory.storage(`cache.k.${i}`, 4 * rows * kvHeads * headDim);
        made[`cache.v.${i}`] = memory.storage(`cache.v.${i}`, 4 * rows * kvHeads * headDim);
      }
      return made;
    });
    const buffers = await allocated.catch((error: unknown) => {
      plan.dispose();
      throw error;
    });
    return new DecodeContext(base, adapter, capacity, buffers, plan);
  }

  /** The plan that reads a prompt of `tokens` tokens and the plan that goes on from there, with a client's adapter. */
  async bind(client: string, adapter: ClientAdapter | null, tokens: number): Promise<ClientPlans> {
    const trace = (): Trace => prefillTrace(samplingModel(this.base, this.adapter), this.capacity);
    await this.#prefill.prepare('prefill', trace, { T: tokens, B: this.capacity.batch });
    const own = adapter && !adapter.merged;
    const weights: Buffers = own ? { 'lora.params': adapter.params } : (adapter?.merged?.buffers ?? {});
    const states = { ...this.buffers, ...weights };
    const key = own ? client : SHARED;
    return {
      prefill: this.#prefill.ready('prefill').bind(key, states),
      decode: this.decode.bind(key, states),
    };
  }

  /** Forgets what was bound for a client alone. */
  unbind(client: string): void {
    this.#prefill.unbind(client);
    this.decode.unbind(client);
  }

  /** Whether a request of this capacity fits. */
  serves(adapter: AdapterLayout | null, { batch, rows, steps, stops }: DecodeCapacity): boolean {
    const own = this.capacity;
    return (
      adapter?.key === this.adapter?.key &&
      batch <= own.batch &&
      rows <= own.rows &&
      steps <= own.steps &&
      stops <= own.stops
    );
  }

  async dispose(): Promise<void> {
    this.decode.dispose();
    await this.#prefill.dispose();
    for (const buffer of Object.values(this.buffers)) this.base.device.memory.free(buffer);
  }
}

/** Contexts kept for the next request. */
const IDLE = 2;

/** Where the weights of a sampling step come from. */
const samplingModel = ({ config, device }: BaseModel, adapter: AdapterLayout | null): SamplingModel => ({
  config,
  adapter,
  merged: device.mergesAdapters,
});

/** Lends contexts to requests and keeps a few for the next. */
export class DecodeContextPool {
  #idle: DecodeContext[] = [];

  constructor(readonly base: BaseModel) {}

  async lend<T>(
    adapter: AdapterLayout | null,
    capacity: DecodeCapacity,
    client: string,
    use: (context: DecodeContext) => Promise<T>,
  ): Promise<T> {
    const at = this.#idle.findIndex((c) => c.serves(adapter, capacity));
    const context =
      at >= 0 ? this.#idle.splice(at, 1)[0]! : await DecodeContext.create(this.base, adapter, capacity);
    try {
      return await use(context);
    } finally {
      context.unbind(client);
      this.#idle.push(context);
      while (this.#idle.length > IDLE) await this.#idle.shift()!.dispose();
    }
  }

  /** Frees the contexts of a layout that nobody samples with any more. */
  async forget(adapter: AdapterLayout | null): Promise<void> {
    const gone = this.#idle.filter((c) => c.adapter?.key === adapter?.key);
    this.#idle = this.#idle.filter((c) => !gone.includes(c));
    for (const context of gone) await context.dispose();
  }
}
