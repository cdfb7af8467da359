/** Exports a sampler: its weights one at a time, under Hugging Face's names, the adapter merged in on the host. */
import type { ExportOnnxRequest, LoadCallOptions } from '../api/contract/backend';
import type { OnnxExportPayload } from '../api/contract/types';
import { tarOf } from '../checkpoints/archive';
import { exportDecoder, type ExportedWeight } from '../export/export-decoder';
import { ROPE_TABLE } from '../export/decoder-graph';
import { changesWeight, mergeInto, type LoraPair } from '../export/merge';
import type { DecoderConfig } from '../models/config';
import type { DeviceBuffer } from './devices/device';
import { linearsOf, rowsOf, type AdapterLayout } from './program/adapter';
import { baseName } from './program/weights';
import type { Sampler } from './sampler';
import { gaveUp, type Release } from './scheduler';

export interface WeightSource {
  readonly config: DecoderConfig;
  /** a base model's tensor by state name and number of elements, in memory of its own */
  readonly read: (name: string, elements: number) => Promise<Float32Array<ArrayBuffer>>;
  /** `params`: the flat vector */
  readonly adapter: { readonly layout: AdapterLayout; readonly params: Float32Array<ArrayBuffer> } | null;
}

/**
 * Writes a sampler's model. What comes after it may run meanwhile: nothing that is read here ever changes.
 * @throws AbortedError when `signal` fires, or the sampler is unloaded; OutOfMemoryError
 */
export async function exportSampler(
  { base, adapter, gone }: Sampler,
  { inlineBytes }: ExportOnnxRequest,
  { signal, onProgress }: LoadCallOptions,
  release: Release,
): Promise<OnnxExportPayload> {
  const { name, config, configJson, tokenizer, weights, device } = base;
  const stop = signal ? AbortSignal.any([signal, gone]) : gone;
  const read = async (buffer: DeviceBuffer, elements: number): Promise<Float32Array<ArrayBuffer>> => {
    const { done } = await device.memory.read([buffer], elements * Float32Array.BYTES_PER_ELEMENT);
    return new Float32Array((await done)[0]!, 0, elements);
  };
  release();
  const source: WeightSource = {
    config,
    read: (state, elements) => read(weights[state]!, elements),
    adapter,
  };
  const pause = async (): Promise<void> => {
    // a whole turn: cancellation comes as a message
    await new Promise((next) => setTimeout(next));
    if (stop.aborted) throw gaveUp(stop);
  };
  const files = await exportDecoder({
    name,
    config,
    configJson,
    tokenizer,
    tied: staysTied(source),
    weights: mergedTensors(source, pause),
    onProgress,
    inlineBytes: inlineBytes ?? undefined,
  });
  if (stop.aborted) throw gaveUp(stop);
  return { files: Object.fromEntries(files), archive: await tarOf(files, new Date()) };
}

/** Whether the exported unembedding is the embedding: tied in the base model, and no adapter changes it. */
export function staysTied({ config, adapter }: WeightSource): boolean {
  const pair = adapter && pairsOf(adapter.layout, adapter.params).get('lm_head');
  return config.tieWordEmbeddings && !(pair && changesWeight(pair));
}

/**
 * Every weight once.
 * @param pause awaited between weights and during long merges; may throw to stop
 */
export async function* mergedTensors(
  source: WeightSource,
  pause: () => Promise<void>,
): AsyncGenerator<ExportedWeight> {
  const { config, read, adapter } = source;
  const { hiddenSize: d, vocabSize, layers } = config;
  const pairs: ReadonlyMap<string, LoraPair> = adapter ? pairsOf(adapter.layout, adapter.params) : new Map();
  const merge = async (
    name: string,
    weight: Float32Array<ArrayBuffer>,
  ): Promise<Float32Array<ArrayBuffer>> => {
    const pair = pairs.get(name);
    if (pair && changesWeight(pair)) await mergeInto(weight, pair, pause);
    return weight;
  };

  const embedding = await read('embed', vocabSize * d);
  yield { name: 'model.embed_tokens.weight', data: embedding };
  if (config.tieWordEmbeddings && !staysTied(source)) {
    yield { name: 'lm_head.weight', data: await merge('lm_head', embedding) };
  }
  for (let i = 0; i < layers; i++) {
    const at = `model.layers.${i}`;
    yield { name: `${at}.input_layernorm.weight`, data: await read(`norm1.${i}`, d) };
    yield { name: `${at}.post_attention_layernorm.weight`, data: await read(`norm2.${i}`, d) };
  }
  for (const linear of linearsOf(config)) {
    if (linear.kind === 'unembed' && config.tieWordEmbeddings) continue;
    await pause();
    const stacked = await read(baseName(linear.key), rowsOf(linear) * linear.inputs);
    let row = 0;
    for (const { name, rows } of linear.members) {
      const weight = stacked.subarray(row * linear.inputs, (row + rows) * linear.inputs);
      yield {
        name: linear.kind === 'unembed' ? `${name}.weight` : `model.${name}.weight`,
        data: await merge(name, weight),
      };
      row += rows;
    }
  }
  yield { name: 'model.norm.weight', data: await read('norm', d) };
  yield { name: ROPE_TABLE, data: await read('rope', config.maxPositionEmbeddings * config.headDim) };
}

/** An adapter's matrices in pairs, by the name of their linear. */
function pairsOf(
  { parameters, rank, scale }: AdapterLayout,
  params: Float32Array<ArrayBuffer>,
): Map<string, LoraPair> {
  const matrices = new Map(
    parameters.map(({ name, shape: [rows, columns], offset }) => [
      name,
      params.subarray(offset, offset + rows * columns),
    ]),
  );
  const linears = parameters.flatMap(({ name }) => /^(.*)\.lora_A$/.exec(name)?.[1] ?? []);
  return new Map(
    linears.map((name) => [
      name,
      { a: matrices.get(`${name}.lora_A`)!, b: matrices.get(`${name}.lora_B`)!, rank, scale },
    ]),
  );
}
