/** The files of a checkpoint: an adapter in PEFT's layout, and AdamW's state beside it. */
import { UnprocessableEntityError } from '../api/contract/errors';
import { parseSafetensors, writeSafetensors, type HostTensor } from '../models/safetensors';
import type { AdapterDescription, AdapterMatrices, AdapterMatrix, OptimizerState } from './catalog-types';
import { adapterConfig, checkPairs, fromPeftName, toPeftName } from './peft';

export const ADAPTER_FILE = 'adapter_model.safetensors';
export const CONFIG_FILE = 'adapter_config.json';
export const OPTIMIZER_FILE = 'optimizer.safetensors';

/** A copy of a weight of the base model, which peft adds where the unembedding is adapted. */
const BASE_UNEMBEDDING = 'base_model.model.lm_head.base_layer.weight';

/** A file before it is written. */
export interface CheckpointFile {
  readonly name: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** The files of a checkpoint, each made when it is asked for. */
export function* checkpointFiles(
  adapter: AdapterDescription,
  matrices: AdapterMatrices,
  optimizer: OptimizerState | null,
): Generator<CheckpointFile> {
  const named = new Map([...matrices].map(([name, matrix]) => [toPeftName(name), matrix]));
  // peft asks for the format of the framework
  yield { name: ADAPTER_FILE, bytes: new Uint8Array(writeSafetensors(named, { format: 'pt' })) };
  yield { name: CONFIG_FILE, bytes: new TextEncoder().encode(adapterConfig(adapter, matrices)) };
  if (!optimizer) return;
  const moments = new Map<string, HostTensor>();
  for (const [name, matrix] of optimizer.m) moments.set(`m.${name}`, matrix);
  for (const [name, matrix] of optimizer.v) moments.set(`v.${name}`, matrix);
  const bytes = new Uint8Array(writeSafetensors(moments, { step: String(optimizer.step) }));
  yield { name: OPTIMIZER_FILE, bytes };
}

/** How a file is refused; the reason completes a sentence that begins with the file. */
export type Refuse = (reason: string, cause?: unknown) => never;

const matrixOf = (name: string, { shape, data }: HostTensor, refuse: Refuse): AdapterMatrix => {
  const [rows, columns] = shape;
  if (shape.length !== 2 || !rows || !columns) {
    return refuse(`has '${name}' of shape [${shape.join(', ')}], which is no matrix`);
  }
  return { shape: [rows, columns], data };
};

function tensorsOf(
  bytes: ArrayBuffer,
  refuse: Refuse,
): { tensors: ReadonlyMap<string, HostTensor>; metadata: Readonly<Record<string, string>> } {
  try {
    return parseSafetensors(bytes, 'the file');
  } catch (error) {
    return refuse(`is not a safetensors file: ${(error as Error).message}`, error);
  }
}

/**
 * Reads `adapter_model.safetensors`.
 * @param refuse is called for a malformed file, unknown tensors, and matrices that do not make pairs of `rank`
 */
export function readAdapter(bytes: ArrayBuffer, rank: number, refuse: Refuse): AdapterMatrices {
  const matrices = new Map<string, AdapterMatrix>();
  for (const [key, tensor] of tensorsOf(bytes, refuse).tensors) {
    if (key === BASE_UNEMBEDDING) continue;
    const name = fromPeftName(key);
    if (name === undefined)
      refuse(`has tensor '${key}', which is no LoRA matrix of a layer this engine trains`);
    else if (matrices.has(name)) refuse(`has '${name}' twice`);
    else matrices.set(name, matrixOf(key, tensor, refuse));
  }
  checkPairs(matrices, rank, refuse);
  return matrices;
}

/**
 * Reads `optimizer.safetensors`.
 * @param refuse is called for a malformed file, and for moments that do not fit `matrices`
 */
export function readOptimizer(bytes: ArrayBuffer, matrices: AdapterMatrices, refuse: Refuse): OptimizerState {
  const { tensors, metadata } = tensorsOf(bytes, refuse);
  const step = Number(metadata.step);
  if (!metadata.step || !Number.isSafeInteger(step) || step < 0) refuse('has no step count');
  const moments = { m: new Map<string, AdapterMatrix>(), v: new Map<string, AdapterMatrix>() };
  for (const [which, found] of Object.entries(moments)) {
    for (const [name, { shape }] of matrices) {
      const key = `${which}.${name}`;
      const tensor = tensors.get(key);
      if (!tensor) return refuse(`lacks '${key}'`);
      const matrix = matrixOf(key, tensor, refuse);
      if (matrix.shape.join() !== shape.join()) {
        refuse(`has '${key}' of shape [${matrix.shape.join(', ')}], the adapter's is [${shape.join(', ')}]`);
      }
      found.set(name, matrix);
    }
  }
  if (tensors.size !== 2 * matrices.size) refuse('has tensors that belong to no matrix of the adapter');
  return { step, ...moments };
}

/** SHA-256, hex. */
export async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** Refuses with a 422 that names the checkpoint and the file. */
export const damaged =
  (checkpoint: string, file: string): Refuse =>
  (reason, cause) => {
    throw new UnprocessableEntityError(`${checkpoint}: ${file} ${reason}`, { cause });
  };
