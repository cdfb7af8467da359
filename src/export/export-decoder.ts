/** A decoder with its tokenizer as the folder that transformers.js loads: `config.json`, `onnx/model.onnx` and so on. */
import type { ProgressEvent } from '../api/contract/types';
import { expectedTensors, type DecoderConfig } from '../models/config';
import { Graph, type Constant } from '../onnx/graph';
import { PAGE, serialize } from '../onnx/serialize';
import { decoderGraph, ROPE_TABLE } from './decoder-graph';
import { modelFiles, type ModelFilesOptions } from './model-files';

/** Weights of more bytes than this lie in files of their own. */
export const INLINE_BYTES = 64 * 2 ** 20;

/** Most bytes of a file of weights, unless a single weight is larger: browsers read each into one buffer. */
export const DATA_FILE_BYTES = 2 ** 30;

/** One weight, by its Hugging Face name; `rope_table` is the table of rotary angles. */
export interface ExportedWeight {
  readonly name: string;
  readonly data: Float32Array<ArrayBuffer>;
}

export interface ExportOptions extends Omit<ModelFilesOptions, 'dataFiles'> {
  /** names the graph and the progress */
  readonly name: string;
  readonly config: DecoderConfig;
  /** every weight of the model once, in any order; its memory may be reused when the next one is asked for */
  readonly weights: AsyncIterable<ExportedWeight>;
  readonly onProgress?: ((event: ProgressEvent) => void) | undefined;
  readonly inlineBytes?: number | undefined;
  readonly dataFileBytes?: number | undefined;
}

/** The file of a place among the weights: `model.onnx_data`, `model.onnx_data_1` …, as transformers.js counts them. */
const dataFile = (index: number): string => `model.onnx_data${index === 0 ? '' : `_${index}`}`;

interface Place {
  readonly file: number;
  readonly byteOffset: number;
  readonly byteLength: number;
}

/**
 * Writes the files, by path. Of the weights only one is in memory at a time; those written so far are in `Blob`s,
 * which browsers keep elsewhere.
 */
export async function exportDecoder(options: ExportOptions): Promise<Map<string, Blob>> {
  const { name, config, tied, weights, onProgress } = options;
  const shapes = weightShapes(config, tied);
  const places = placesOf(shapes, options);
  const graph = new Graph(name);
  const written = new Map<string, Blob | Float32Array<ArrayBuffer>>();
  const progress = (loaded: number): void =>
    onProgress?.({ phase: 'export', what: name, loaded, total: shapes.size });

  progress(0);
  for await (const { name: weight, data } of weights) {
    const shape = shapes.get(weight);
    if (!shape) throw new Error(`the graph has no weight ${weight}`);
    if (data.length !== size(shape))
      throw new Error(`${weight} has ${data.length} elements, not ${size(shape)}`);
    written.set(weight, places ? new Blob([data]) : data.slice());
    progress(written.size);
  }
  const missing = [...shapes.keys()].filter((weight) => !written.has(weight));
  if (missing.length > 0) throw new Error(`weights of ${name} are missing: ${missing.join(', ')}`);

  const dataOf = (weight: string): Constant['data'] => {
    const place = places?.get(weight);
    return place
      ? { ...place, location: dataFile(place.file) }
      : (written.get(weight) as Float32Array<ArrayBuffer>);
  };
  decoderGraph(
    graph,
    { config, unembedding: tied ? 'model.embed_tokens.weight' : 'lm_head.weight' },
    (weight) => graph.constant(weight, 'f32', shapes.get(weight)!, dataOf(weight)),
  );
  const data = places ? dataBlobs(places, written as ReadonlyMap<string, Blob>) : [];
  const model = serialize(graph);
  const files = modelFiles({ ...options, dataFiles: data.length });
  files.set('onnx/model.onnx', new Blob([model], { type: 'application/octet-stream' }));
  data.forEach((blob, i) => files.set(`onnx/${dataFile(i)}`, blob));
  return files;
}

const size = (shape: readonly number[]): number => shape.reduce((n, d) => n * d, 1);

/** Every weight of the graph. */
function weightShapes(config: DecoderConfig, tied: boolean): Map<string, readonly number[]> {
  const shapes = expectedTensors({ ...config, tieWordEmbeddings: tied });
  return shapes.set(ROPE_TABLE, [config.maxPositionEmbeddings, config.headDim]);
}

/** Where each weight goes among the files beside the graph; undefined if all go into the graph itself. */
function placesOf(
  shapes: ReadonlyMap<string, readonly number[]>,
  { inlineBytes = INLINE_BYTES, dataFileBytes = DATA_FILE_BYTES }: ExportOptions,
): Map<string, Place> | undefined {
  const bytesOf = (shape: readonly number[]): number => size(shape) * Float32Array.BYTES_PER_ELEMENT;
  if ([...shapes.values()].reduce((n, shape) => n + bytesOf(shape), 0) <= inlineBytes) return undefined;
  const places = new Map<string, Place>();
  let file = 0;
  let end = 0;
  for (const [weight, shape] of shapes) {
    const byteLength = bytesOf(shape);
    let byteOffset = Math.ceil(end / PAGE) * PAGE;
    if (end > 0 && byteOffset + byteLength > dataFileBytes) {
      file++;
      byteOffset = 0;
    }
    end = byteOffset + byteLength;
    places.set(weight, { file, byteOffset, byteLength });
  }
  return places;
}

/** The files of weights, put together from their parts without reading them. */
function dataBlobs(places: ReadonlyMap<string, Place>, stored: ReadonlyMap<string, Blob>): Blob[] {
  const files: BlobPart[][] = [];
  let end = 0;
  for (const [weight, { file, byteOffset, byteLength }] of places) {
    if (!files[file]) end = 0;
    const parts = (files[file] ??= []);
    parts.push(new Uint8Array(byteOffset - end), stored.get(weight)!);
    end = byteOffset + byteLength;
  }
  return files.map((parts) => new Blob(parts, { type: 'application/octet-stream' }));
}
