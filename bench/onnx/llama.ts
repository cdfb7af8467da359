/** Llamas with random weights of any shape, one training run on them, and their files for a peer. */
import type { DatumPayload } from '../../src/api/contract/types';
import type { DeviceOpener } from '../../src/engine/devices/device';
import { Engine } from '../../src/engine/engine';
import { linearsOf, rowsOf } from '../../src/engine/program/adapter';
import { parseConfig } from '../../src/models/config';
import type { loadModel } from '../../src/models/load';
import { seeded, uniformArray } from '../harness';
import * as tiny from '../tiny-llama';

export interface Shape {
  readonly name: string;
  /** a Hugging Face `config.json` */
  readonly config: Readonly<Record<string, unknown>>;
  readonly sequences: number;
  /** tokens of a sequence */
  readonly length: number;
}

export const RANK = tiny.RANK;

/** The shape of the other training benchmarks. */
export const TINY: Shape = {
  name: '4 layers × 128, 8 × 128 tokens',
  config: tiny.CONFIG,
  sequences: tiny.BATCH,
  length: tiny.TOKENS,
};

/** The shape of SmolLM2-135M. */
export const LARGE: Shape = {
  name: '30 layers × 576, 512 tokens',
  config: {
    ...tiny.CONFIG,
    hidden_size: 576,
    intermediate_size: 1536,
    num_hidden_layers: 30,
    num_attention_heads: 9,
    num_key_value_heads: 3,
    head_dim: 64,
    vocab_size: 49152,
    max_position_embeddings: 2048,
    tie_word_embeddings: true,
  },
  sequences: 1,
  length: 512,
};

export type Weights = Map<string, tiny.HostWeight>;

/** Random weights under their Hugging Face names. */
export function randomWeights(shape: Shape): Weights {
  const config = parseConfig(shape.config, shape.name);
  const { hiddenSize: width, vocabSize, layers, tieWordEmbeddings } = config;
  const next = seeded(1);
  const weights: Weights = new Map();
  const matrix = (name: string, rows: number, columns: number, scale: number): void => {
    weights.set(name, { shape: [rows, columns], data: uniformArray(rows * columns, scale, next) });
  };
  const norm = (name: string): void => {
    weights.set(name, { shape: [width], data: uniformArray(width, 0.1, next).map((x) => 1 + x) });
  };
  matrix('model.embed_tokens.weight', vocabSize, width, tieWordEmbeddings ? 0.05 : 1);
  for (let i = 0; i < layers; i++) {
    norm(`model.layers.${i}.input_layernorm.weight`);
    norm(`model.layers.${i}.post_attention_layernorm.weight`);
  }
  for (const linear of linearsOf(config)) {
    if (linear.kind === 'unembed' && tieWordEmbeddings) continue;
    for (const { name, rows } of linear.members) {
      const prefix = linear.kind === 'unembed' ? '' : 'model.';
      matrix(`${prefix}${name}.weight`, rows, linear.inputs, Math.sqrt(3 / rowsOf(linear)));
    }
  }
  norm('model.norm.weight');
  return weights;
}

/** (sequences, length + 1) token ids: inputs are all but the last of a row, targets all but the first. */
export function randomTokens({ sequences, length, config }: Shape): number[][] {
  const next = seeded(2);
  const vocabulary = config['vocab_size'] as number;
  return Array.from({ length: sequences }, () =>
    Array.from({ length: length + 1 }, () => Math.floor(next() * vocabulary)),
  );
}

/** A training run. */
export interface Run {
  readonly engine: Engine;
  readonly modelId: string;
  /** forward, backward and AdamW; the loss, a sum over tokens */
  step(): Promise<number>;
}

/** An engine on one kind of device with such a model. @param load loads the default model on this platform */
export async function openEngine(
  opener: DeviceOpener,
  shape: Shape,
  weights: Weights,
  load: typeof loadModel,
): Promise<Engine> {
  // any tokenizer: these models have no text
  const { tokenizer } = await load('webtinker/pocket');
  return Engine.create({
    devices: [opener],
    device: opener.kind,
    resolveModel: (name) =>
      Promise.resolve({
        name,
        configJson: shape.config,
        config: parseConfig(shape.config, name),
        tensors: weights,
        tokenizer,
      }),
  });
}

export async function trainingRun(
  opener: DeviceOpener,
  shape: Shape,
  weights: Weights,
  load: typeof loadModel,
): Promise<Run> {
  const engine = await openEngine(opener, shape, weights, load);
  const { sessionId } = await engine.createSession({ userMetadata: {} });
  const { modelId } = await engine.createModel({
    sessionId,
    baseModel: shape.name,
    lora: { rank: RANK, seed: 7, trainMlp: true, trainAttn: true, trainUnembed: true },
    userMetadata: {},
  });
  const data = randomTokens(shape).map((row): DatumPayload => {
    const targets = row.slice(1);
    const ones = new Float32Array(targets.length).fill(1);
    return {
      tokens: row.slice(0, -1),
      lossFnInputs: {
        target_tokens: { dtype: 'int64', shape: [targets.length], data: Float64Array.from(targets) },
        weights: { dtype: 'float32', shape: [targets.length], data: ones },
      },
    };
  });
  const step = async (): Promise<number> => {
    const request = { modelId, data, lossFn: 'cross_entropy', lossFnConfig: {}, forwardOnly: false } as const;
    // both are submitted before either is awaited, as the documentation advises
    const pass = engine.forwardBackward(request);
    const update = engine.optimStep({ modelId, adamParams: { ...tiny.ADAM, gradClipNorm: 0 } });
    const [{ metrics }] = await Promise.all([pass, update]);
    return metrics['loss:sum']!;
  };
  return { engine, modelId, step };
}
