/** The memory one sampling request works in: key/value cache, device-side decode state, and the plans bound to them. */
import { decodeStateLayout } from '../kernels/sample/sample';
import type { BaseModel } from './base-model';
import { Plan, type BoundPlan } from './devices/webgpu/plan';
import { bucket, PlanCache } from './plans';
import type { AdapterLayout } from './program/adapter';
import { decodeTrace, prefillTrace, type DecodeCapacity } from './program/steps';

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

export class DecodeContext {
  readonly #prefill: PlanCache;

  private constructor(
    readonly base: BaseModel,
    readonly adapter: AdapterLayout | null,
    readonly capacity: DecodeCapacity,
    readonly buffers: Readonly<Record<string, GPUBuffer>>,
    readonly states: Readonly<Record<string, GPUBuffer>>,
    readonly decode: BoundPlan,
  ) {
    this.#prefill = new PlanCache(base.context);
  }

  /** @param weights merged weights by state name; none for the base model */
  static async create(
    base: BaseModel,
    adapter: AdapterLayout | null,
    capacity: DecodeCapacity,
    weights: Readonly<Record<string, GPUBuffer>>,
  ): Promise<DecodeContext> {
    const { memory } = base.context;
    const { layers, kvHeads, headDim } = base.config;
    const { batch, rows, steps, stops } = capacity;
    const plan = await Plan.compile(base.context, decodeTrace({ config: base.config, adapter }, capacity), {
      B: batch,
    });
    const allocated = memory.allocate('the key/value cache', () => {
      const made: Record<string, GPUBuffer> = {
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
    const states = { ...base.buffers, ...weights, ...buffers };
    return new DecodeContext(base, adapter, capacity, buffers, states, plan.bind('context', states));
  }

  /** The plan that reads a prompt of `tokens` tokens. */
  async prefill(tokens: number): Promise<BoundPlan> {
    const { config } = this.base;
    const trace = () => prefillTrace({ config, adapter: this.adapter }, this.capacity);
    await this.#prefill.prepare('prefill', trace, { T: tokens, B: this.capacity.batch });
    return this.#prefill.ready('prefill').bind('context', this.states);
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
    this.decode.plan.dispose();
    await this.#prefill.dispose();
    for (const buffer of Object.values(this.buffers)) this.base.context.memory.free(buffer);
  }
}

/** Contexts kept for the next request. */
const IDLE = 2;

/** Lends contexts to requests and keeps a few for the next. */
export class DecodeContextPool {
  #idle: DecodeContext[] = [];

  constructor(readonly base: BaseModel) {}

  async lend<T>(
    adapter: AdapterLayout | null,
    capacity: DecodeCapacity,
    weights: Readonly<Record<string, GPUBuffer>>,
    use: (context: DecodeContext) => Promise<T>,
  ): Promise<T> {
    const at = this.#idle.findIndex((c) => c.serves(adapter, capacity));
    const context =
      at >= 0
        ? this.#idle.splice(at, 1)[0]!
        : await DecodeContext.create(this.base, adapter, capacity, weights);
    try {
      return await use(context);
    } finally {
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
