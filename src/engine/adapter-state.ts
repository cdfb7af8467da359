/** What a training run trains: its adapter, gradients and Adam moments, as flat vectors on a device. */
import { BadRequestError } from '../api/contract/errors';
import type {
  AdapterDescription,
  AdapterMatrices,
  AdapterMatrix,
  SavedAdapter,
} from '../checkpoints/catalog-types';
import { philoxUniform } from '../kernels/philox';
import type { DeviceBuffer, DeviceMemory } from './devices/device';
import type { AdapterLayout } from './program/adapter';
import type { Submitted } from './turns';

export type Vector = 'params' | 'grads' | 'm' | 'v';

export class AdapterState {
  /** by state name */
  readonly buffers: Readonly<Record<`lora.${Vector | 'saved' | 'fault'}`, DeviceBuffer>>;
  /** whether the gradients may be other than zero */
  #gradient = false;

  /** @param seed fixes the initial A matrices */
  constructor(
    private readonly memory: DeviceMemory,
    readonly id: string,
    readonly layout: AdapterLayout,
    private readonly seed: number,
  ) {
    const bytes = 4 * layout.length;
    this.buffers = {
      'lora.params': memory.upload(`${id}.params`, initialAdapter(layout, seed)),
      'lora.grads': memory.storage(`${id}.grads`, bytes),
      'lora.m': memory.storage(`${id}.m`, bytes),
      'lora.v': memory.storage(`${id}.v`, bytes),
      // what `gradientGuard` goes by: the gradients before the request that runs, and whether it failed
      'lora.saved': memory.storage(`${id}.saved`, bytes),
      'lora.fault': memory.storage(`${id}.fault`, 4),
    };
  }

  /** A copy of the adapter as it is now, in a buffer of its own. */
  snapshot(): DeviceBuffer {
    return this.memory.copy(`${this.id}.snapshot`, this.buffers['lora.params'], 4 * this.layout.length);
  }

  /** Vectors as matrices by canonical name, as they are when this resolves; `done` is when the host has them. */
  async read(vectors: readonly Vector[]): Promise<Submitted<AdapterMatrices[]>> {
    const buffers = vectors.map((vector) => this.buffers[`lora.${vector}`]);
    const { done } = await this.memory.read(buffers, 4 * this.layout.length);
    return { done: done.then((copies) => copies.map((copy) => matricesOf(this.layout, copy))) };
  }

  /** Right before the first batch of a request that adds to the gradients. @returns whether there are some, now saved */
  beginGradient(): boolean {
    const { 'lora.grads': grads, 'lora.saved': saved, 'lora.fault': fault } = this.buffers;
    this.memory.write(fault, 0, Uint32Array.of(0));
    const hasSaved = this.#gradient;
    if (hasSaved) this.memory.copyInto(grads, saved, 4 * this.layout.length);
    this.#gradient = true;
    return hasSaved;
  }

  /** Right before an optimizer step, which leaves them zero. */
  clearsGradient(): void {
    this.#gradient = false;
  }

  /** Overwrites adapter matrices by canonical name. */
  write(matrices: ReadonlyMap<string, Float32Array<ArrayBuffer>>): void {
    for (const { name, shape, offset } of this.layout.parameters) {
      const data = matrices.get(name);
      if (!data) continue;
      if (data.length !== shape[0] * shape[1])
        throw new Error(`${name} has ${data.length} values, not ${shape.join('×')}`);
      this.memory.write(this.buffers['lora.params'], 4 * offset, data);
    }
  }

  /**
   * Replaces adapter and moments by saved ones and clears the gradients. What the
   * saved adapter lacks is as in a fresh one; without an optimizer state the
   * moments are zero.
   * @throws BadRequestError, before anything changes, if the saved matrices are not this adapter's
   */
  restore({ matrices, optimizer }: SavedAdapter): void {
    const { layout } = this;
    const params = initialAdapter(layout, this.seed);
    fill(layout, params, matrices);
    const [m, v] = [new Float32Array(layout.length), new Float32Array(layout.length)];
    if (optimizer) {
      fill(layout, m, optimizer.m);
      fill(layout, v, optimizer.v);
    }
    const { memory } = this;
    memory.write(this.buffers['lora.params'], 0, params);
    memory.write(this.buffers['lora.m'], 0, m);
    memory.write(this.buffers['lora.v'], 0, v);
    memory.write(this.buffers['lora.grads'], 0, new Float32Array(layout.length));
    this.#gradient = false;
  }

  dispose(): void {
    for (const buffer of Object.values(this.buffers)) this.memory.free(buffer);
  }
}

/** A saved adapter as a flat vector; matrices it lacks are zero. @throws BadRequestError if it is not of this layout */
export function flatAdapter(layout: AdapterLayout, { matrices }: SavedAdapter): Float32Array<ArrayBuffer> {
  const flat = new Float32Array(layout.length);
  fill(layout, flat, matrices);
  return flat;
}

/** Writes matrices into a flat vector. */
function fill(layout: AdapterLayout, flat: Float32Array<ArrayBuffer>, matrices: AdapterMatrices): void {
  const unknown = new Set(matrices.keys());
  for (const { name, shape, offset } of layout.parameters) {
    const matrix = matrices.get(name);
    if (!matrix) continue;
    unknown.delete(name);
    const [rows, columns] = matrix.shape;
    if (rows !== shape[0] || columns !== shape[1]) {
      throw new BadRequestError(
        `path: ${name} of the checkpoint is ${rows}×${columns}, of the model ${shape.join('×')}`,
      );
    }
    flat.set(matrix.data, offset);
  }
  if (unknown.size > 0) {
    throw new BadRequestError(`path: the checkpoint has ${[...unknown][0]}, which this model does not train`);
  }
}

/** Views of a flat vector, by canonical name. */
function matricesOf(layout: AdapterLayout, bytes: ArrayBuffer): AdapterMatrices {
  const flat = new Float32Array(bytes);
  return new Map(
    layout.parameters.map(({ name, shape, offset }): [string, AdapterMatrix] => [
      name,
      { shape, data: flat.subarray(offset, offset + shape[0] * shape[1]) },
    ]),
  );
}

/** B zero; A uniform in ±1/√in, each matrix from its own stream of `seed`. */
function initialAdapter(layout: AdapterLayout, seed: number): Float32Array<ArrayBuffer> {
  const flat = new Float32Array(layout.length);
  layout.parameters.forEach(({ role, shape, offset }, stream) => {
    if (role === 'B') return;
    const bound = 1 / Math.sqrt(shape[1]);
    flat.set(philoxUniform(seed, stream, shape[0] * shape[1], -bound, bound), offset);
  });
  return flat;
}

/** Whether a checkpoint can go into a model. @throws BadRequestError naming what differs */
export function checkFits(saved: AdapterDescription, model: AdapterDescription): void {
  const keys = ['baseModel', 'rank', 'trainAttn', 'trainMlp', 'trainUnembed'] as const;
  const differ = keys.filter((key) => saved[key] !== model[key]);
  if (differ.length === 0) return;
  const list = (of: AdapterDescription): string => differ.map((key) => `${WIRE[key]} ${of[key]}`).join(', ');
  throw new BadRequestError(
    `path: the checkpoint has ${list(saved)}, this model ${list(model)}; load it into a model like its own, as create_training_client_from_state makes`,
  );
}

const WIRE = {
  baseModel: 'base_model',
  rank: 'lora_rank',
  trainAttn: 'train_attn',
  trainMlp: 'train_mlp',
  trainUnembed: 'train_unembed',
} as const;
