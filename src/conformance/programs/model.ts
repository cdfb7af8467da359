/** Small random models: every shape of a decoder that the engine supports. */
import { adapterLayout, linearsOf, rowsOf, type AdapterLayout } from '../../engine/program/adapter';
import { baseName } from '../../engine/program/weights';
import { ropeTable } from '../../kernels/rope/rope';
import type { HostArray } from '../../kernels/op';
import type { DecoderConfig } from '../../models/config';
import type { Plain } from '../case';
import { segmentsOf, type F32, type Random } from '../random';

export interface TestModel {
  readonly config: DecoderConfig;
  readonly adapter: AdapterLayout;
  /** frozen tensors by state name */
  readonly weights: Readonly<Record<string, F32>>;
  /** the adapter's flat vector */
  readonly params: F32;
  readonly about: { readonly [name: string]: Plain };
}

/** Tied and not, grouped and not, sizes with and without whole vec4s, every subset of trained parts. */
export function modelOf(random: Random): TestModel {
  const even = random.chance(0.6);
  const up = (n: number): number => (even ? 4 * Math.ceil(n / 4) : n);
  const kvHeads = random.int(1, 2);
  const config: DecoderConfig = {
    modelType: 'llama',
    vocabSize: random.pick([random.int(20, 64), random.int(65, 300)]),
    hiddenSize: up(random.int(6, 40)),
    intermediateSize: up(random.int(6, 60)),
    layers: random.int(1, 2),
    kvHeads,
    heads: kvHeads * random.int(1, 3),
    // of those that the cases of attention have compiled already
    headDim: even ? 8 : 6,
    rmsNormEps: random.pick([1e-5, 1e-6]),
    rope: { theta: 10_000, scaling: { type: 'none' } },
    tieWordEmbeddings: random.chance(0.5),
    maxPositionEmbeddings: 128,
    eosTokenIds: [],
  };
  const parts = random.int(1, 7);
  const [trainAttn, trainMlp, trainUnembed] = [1, 2, 4].map((bit) => (parts & bit) > 0) as [
    boolean,
    boolean,
    boolean,
  ];
  const rank = random.pick([1, 2, 4, 8]);
  const adapter = adapterLayout(config, { rank, trainAttn, trainMlp, trainUnembed });
  const params = new Float32Array(adapter.length);
  for (const { role, shape, offset } of adapter.parameters) {
    const [rows, columns] = shape;
    // B·A small beside W, as a trained adapter's is
    params.set(
      random.values(
        rows * columns,
        'normal',
        role === 'A' ? 1 / Math.sqrt(columns) : 0.1 / adapter.scale / Math.sqrt(rank),
      ),
      offset,
    );
  }
  const { heads, headDim, layers, hiddenSize, vocabSize, intermediateSize } = config;
  return {
    config,
    adapter,
    weights: weightsOf(random, config),
    params,
    about: {
      layers,
      hiddenSize,
      intermediateSize,
      vocabSize,
      heads,
      kvHeads,
      headDim,
      tied: config.tieWordEmbeddings,
      rank,
      trained: [trainAttn && 'attn', trainMlp && 'mlp', trainUnembed && 'unembed'].filter(
        (part) => part !== false,
      ),
    },
  };
}

function weightsOf(random: Random, config: DecoderConfig): Record<string, F32> {
  const { hiddenSize: d, vocabSize, layers, headDim, maxPositionEmbeddings } = config;
  const norm = (): F32 => random.values(d, 'normal', 0.2).map((x) => 1 + x);
  // logits of some ±3, also where the embedding is the unembedding
  const weights: Record<string, F32> = {
    embed: random.values(vocabSize * d, 'normal', 2 / Math.sqrt(d)),
    norm: norm(),
    rope: ropeTable({ theta: config.rope.theta, headDim }, maxPositionEmbeddings),
  };
  for (let i = 0; i < layers; i++) Object.assign(weights, { [`norm1.${i}`]: norm(), [`norm2.${i}`]: norm() });
  for (const linear of linearsOf(config)) {
    if (linear.kind === 'unembed' && config.tieWordEmbeddings) continue;
    const scale = (linear.kind === 'unembed' ? 2 : 1) / Math.sqrt(linear.inputs);
    weights[baseName(linear.key)] = random.values(rowsOf(linear) * linear.inputs, 'normal', scale);
  }
  return weights;
}

/** A packed batch of random tokens. */
export interface TestBatch {
  readonly T: number;
  readonly lengths: readonly number[];
  readonly inputs: Readonly<Record<'tokens' | 'positions' | 'segments', HostArray>>;
}

export function batchOf(random: Random, { vocabSize }: DecoderConfig, T = random.size(65)): TestBatch {
  const lengths = random.lengths(T);
  const positions = Uint32Array.from(lengths.flatMap((n) => Array.from({ length: n }, (_, i) => i)));
  return {
    T,
    lengths,
    inputs: { tokens: random.ids(T, vocabSize), positions, segments: segmentsOf(lengths) },
  };
}

/** [start, end) of every LoRA matrix in the flat vector. */
export const matricesOf = ({ parameters }: AdapterLayout): (readonly [number, number])[] =>
  parameters.map(({ offset, shape }) => [offset, offset + shape[0] * shape[1]] as const);
