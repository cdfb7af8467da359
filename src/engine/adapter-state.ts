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

/** An adapter and its Adam moments on the host: flat vectors, which are replaced and never written. */
export interface HostVectors {
  readonly params: Float32Array<ArrayBuffer>;
  readonly m: Float32Array<ArrayBuffer>;
  readonly v: Float32Array<ArrayBuffer>;
}

export class AdapterState {
  /** by state name */
  readonly buffers: Readonly<Record<`lora.${keyof HostVectors | 'grads' | 'saved' | 'fault'}`, DeviceBuffer>>;
  /** whether the gradients may be other than zero */
  #gradient: boolean;

  private constructor(
    private readonly memory: DeviceMemory,
    readonly layout: AdapterLayout,
    id: string,
    { params, m, v }: HostVectors,
    grads: Float32Array<ArrayBuffer> | null,
  ) {
    this.#gradient = grads !== null;
    const bytes = 4 * layout.length;
    this.buffers = {
      'lora.params': memory.upload(`${id}.params`, params),
      'lora.grads': grads ? memory.upload(`${id}.grads`, grads) : memory.storage(`${id}.grads`, bytes),
      'lora.m': memory.upload(`${id}.m`, m),
      'lora.v': memory.upload(`${id}.v`, v),
      // what `gradientGuard` goes by: the gradients before the request that runs, and whether it failed
      'lora.saved': memory.storage(`${id}.saved`, bytes),
      'lora.fault': memory.storage(`${id}.fault`, 4),
    };
  }

  /** Puts an adapter on a device. @param grads null: zero. @throws OutOfMemoryError */
  static upload(
    memory: DeviceMemory,
    layout: AdapterLayout,
    id: string,
    vectors: HostVectors,
    grads: Float32Array<ArrayBuffer> | null,
  ): Promise<AdapterState> {
    return memory.allocate(
      'the adapter and its moments',
      () => new AdapterState(memory, layout, id, vectors, grads),
    );
  }

  /** The gradients as they are when this resolves, flat; `done` is when the host has them. */
  async readGradients(): Promise<Submitted<Float32Array<ArrayBuffer>>> {
    const { done } = await this.memory.read([this.buffers['lora.grads']], 4 * this.layout.length);
    return { done: done.then(([gradients]) => new Float32Array(gradients!)) };
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

  /** After a request of which some batches ran and one could not: as `beginGradient` found them. */
  undoGradient(hasSaved: boolean): void {
    const { 'lora.grads': grads, 'lora.saved': saved } = this.buffers;
    const bytes = 4 * this.layout.length;
    if (hasSaved) this.memory.copyInto(saved, grads, bytes);
    else this.memory.write(grads, 0, new Uint8Array(bytes));
    this.#gradient = hasSaved;
  }

  /** Right before an optimizer step, which leaves them zero. */
  clearsGradient(): void {
    this.#gradient = false;
  }

  /** Overwrites the adapter. */
  writeParams(params: Float32Array<ArrayBuffer>): void {
    this.memory.write(this.buffers['lora.params'], 0, params);
  }

  /** Overwrites adapter and moments, and clears the gradients. */
  write({ params, m, v }: HostVectors): void {
    this.writeParams(params);
    this.memory.write(this.buffers['lora.m'], 0, m);
    this.memory.write(this.buffers['lora.v'], 0, v);
    this.memory.write(this.buffers['lora.grads'], 0, new Float32Array(this.layout.length));
    this.#gradient = false;
  }

  dispose(): void {
    for (const buffer of Object.values(this.buffers)) this.memory.free(buffer);
  }
}

/** A fresh adapter: B zero; A uniform in ±1/√in, each matrix from its own stream of `seed`; moments zero. */
export const freshVectors = (layout: AdapterLayout, seed: number): HostVectors => ({
  params: initialAdapter(layout, seed),
  m: new Float32Array(layout.length),
  v: new Float32Array(layout.length),
});

/**
 * A saved adapter with its moments. What the adapter lacks is as in a fresh one; without an optimizer state the
 * moments are zero.
 * @throws BadRequestError if the saved matrices are not of this layout
 */
export function savedVectors(
  layout: AdapterLayout,
  seed: number,
  { matrices, optimizer }: SavedAdapter,
): HostVectors {
  const vectors = freshVectors(layout, seed);
  fill(layout, vectors.params, matrices);
  if (optimizer) {
    fill(layout, vectors.m, optimizer.m);
    fill(layout, vectors.v, optimizer.v);
  }
  return vectors;
}

/** A flat vector with some of its matrices replaced, by canonical name. */
export function withMatrices(
  layout: AdapterLayout,
  flat: Float32Array<ArrayBuffer>,
  matrices: ReadonlyMap<string, Float32Array>,
): Float32Array<ArrayBuffer> {
  const changed = flat.slice();
  for (const { name, shape, offset } of layout.parameters) {
    const data = matrices.get(name);
    if (!data) continue;
    if (data.length !== shape[0] * shape[1])
      throw new Error(`${name} has ${data.length} values, not ${shape.join('×')}`);
    changed.set(data, offset);
  }
  return changed;
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
export function matricesOf(layout: AdapterLayout, flat: Float32Array<ArrayBuffer>): AdapterMatrices {
  return new Map(
    layout.parameters.map(({ name, shape, offset }): [string, AdapterMatrix] => [
      name,
      { shape, data: flat.subarray(offset, offset + shape[0] * shape[1]) },
    ]),
  );
}

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
