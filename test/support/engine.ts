/** The real engine on a device of this place, with the tiny checkpoints of `test/fixtures/models` as its models. */
import type { Backend } from '../../src/api/contract/backend';
import { inject } from 'vitest';
import type {
  DatumPayload,
  DeviceKind,
  LoraConfigPayload,
  SamplingParamsPayload,
} from '../../src/api/contract/types';
import { Catalog } from '../../src/checkpoints/catalog';
import { MemoryStore } from '../../src/checkpoints/memory-store';
import type { Store } from '../../src/checkpoints/store';
import type { ResolveModel } from '../../src/engine/bases';
import type { DeviceOpener } from '../../src/engine/devices/device';
import type { GpuContext } from '../../src/engine/devices/webgpu/plan';
import { WebGpuDevice, webgpuOpener } from '../../src/engine/devices/webgpu/webgpu-device';
import { Engine, type EngineOptions } from '../../src/engine/engine';
import { loadModel } from '../../src/models/load';
import { parseSafetensors } from '../../src/models/safetensors';
import { fetchHere, fixtureUrl, readFixture } from './files';

export const FIXTURE_NAMES = ['untied', 'tied', 'grouped-odd', 'llama3-rope', 'wide-heads'] as const;
export type FixtureName = (typeof FIXTURE_NAMES)[number];

const folder = (name: FixtureName): string => `models/${name}/`;

const modelSources = Object.fromEntries(FIXTURE_NAMES.map((name) => [name, fixtureUrl(folder(name))]));

/** Finds the fixtures, and the built-in models. */
export const resolveFixture: ResolveModel = (name, options) =>
  loadModel(name, { ...options, modelSources, fetch: fetchHere });

/** What the page's adapter is to be taken for; the kernels then chosen run on the real one. */
export interface AdapterRole {
  readonly kind: 'gpu' | 'software';
  readonly subgroups: boolean;
}

/** The page's GPU, describing itself as another kind and without what that lacks. */
export function gpuInRole({ kind, subgroups }: AdapterRole): GPU {
  const requestAdapter: GPU['requestAdapter'] = async (options) => {
    const adapter = await navigator.gpu.requestAdapter(options);
    if (!adapter) return null;
    const named = kind === 'gpu' ? 'test' : 'swiftshader';
    return {
      info: { vendor: '', architecture: named, device: '', description: '', isFallbackAdapter: false },
      features: new Set([...adapter.features].filter((f) => subgroups || f !== 'subgroups')),
      limits: adapter.limits,
      requestDevice: (descriptor?: GPUDeviceDescriptor) => adapter.requestDevice(descriptor),
    } as unknown as GPUAdapter;
  };
  return { requestAdapter } as GPU;
}

declare module 'vitest' {
  interface ProvidedContext {
    /** what the tests of this project compute on; see vite.config.ts */
    readonly device: DeviceKind;
  }
}

/** What the engines of this run compute on. */
export const DEVICE: DeviceKind = inject('device');

const ONNX_OPENERS: readonly DeviceOpener[] = import.meta.env.SSR
  ? [(await import('../../src/engine/devices/onnx/native')).nativeOpener()]
  : [(await import('../../src/engine/devices/onnx/wasm')).wasmOpener()];

/** Kinds of adapter that a test runs for: this page's own, and others whose kernels it has. */
export const rolesOf = <R extends AdapterRole>(...others: readonly R[]): readonly (R | undefined)[] =>
  DEVICE === 'webgpu' ? [undefined, ...others] : [undefined];

export interface OpenOptions extends Partial<EngineOptions> {
  readonly role?: AdapterRole | undefined;
  readonly store?: Store;
}

/**
 * An engine that knows the fixtures by their folder names, and the built-in models; its checkpoints are in `store`.
 * Whatever the GPU complains about while it is open fails the test run.
 */
export async function openEngine({
  role,
  store = new MemoryStore(),
  ...others
}: OpenOptions = {}): Promise<Engine> {
  const engine = await Engine.create({
    devices: [webgpuOpener(role && gpuInRole(role)), ...ONNX_OPENERS],
    device: role ? 'webgpu' : DEVICE,
    storage: { kind: store.kind, open: () => Catalog.open(store) },
    resolveModel: resolveFixture,
    fetch: fetchHere,
    ...others,
  });
  if (engine.device instanceof WebGpuDevice) {
    engine.device.context.device.addEventListener('uncapturederror', ({ error }) =>
      reportError(new Error(`the GPU reported: ${error.message}`)),
    );
  }
  return engine;
}

/** The GPU that an engine on WebGPU runs on. */
export function gpuOf({ device }: Engine): GpuContext {
  if (!(device instanceof WebGpuDevice)) throw new Error(`the engine runs on ${device.info.kind}`);
  return device.context;
}

/** LoRA matrices by canonical name: A (r, in), B (out, r). */
export type Matrices = ReadonlyMap<string, Float32Array<ArrayBuffer>>;

export interface GreedyReference {
  readonly prompt: readonly number[];
  readonly tokens: readonly number[];
  /** of the tokens, at temperature 1 */
  readonly logprobs: readonly number[];
}

export interface RunReference {
  readonly learningRate: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  readonly weightDecay: number;
  readonly gradClipNorm: number;
  /** before each of ten steps */
  readonly losses: readonly number[];
  readonly gradNorms: readonly number[];
  readonly final: Matrices;
}

/** What transformers + peft computed; see `test/fixtures/models/make_models.py`. */
export interface Fixture {
  readonly name: FixtureName;
  readonly vocabSize: number;
  readonly maxPositionEmbeddings: number;
  readonly eosTokenId: number | null;
  readonly rank: number;
  readonly adapter: Matrices;
  readonly gradients: Matrices;
  readonly batch: readonly DatumPayload[];
  readonly loss: number;
  /** per datum */
  readonly logprobs: readonly (readonly number[])[];
  readonly runs: Readonly<Record<'plain' | 'clipped', RunReference>>;
  /** twelve tokens from the base model, and with the adapter */
  readonly greedy: Readonly<Record<'base' | 'adapted', GreedyReference>>;
}

interface ExpectedFile {
  readonly rank: number;
  readonly batch: readonly { tokens: number[]; targets: number[]; weights: number[] }[];
  readonly loss: number;
  readonly logprobs: number[][];
  readonly runs: Record<'plain' | 'clipped', Omit<RunReference, 'final'>>;
  readonly greedy: Fixture['greedy'];
}

async function matrices(path: string): Promise<Matrices> {
  const { tensors } = parseSafetensors(await (await readFixture(path)).arrayBuffer(), path);
  return new Map([...tensors].map(([name, { data }]) => [name, data]));
}

export async function loadFixture(name: FixtureName): Promise<Fixture> {
  const at = folder(name);
  const expected = (await (await readFixture(`${at}expected.json`)).json()) as ExpectedFile;
  const config = (await (await readFixture(`${at}config.json`)).json()) as Record<string, number | null>;
  const [adapter, gradients, plain, clipped] = await Promise.all(
    ['adapter', 'gradients', 'final-plain', 'final-clipped'].map((f) => matrices(`${at}${f}.safetensors`)),
  );
  return {
    name,
    vocabSize: config.vocab_size!,
    maxPositionEmbeddings: config.max_position_embeddings!,
    eosTokenId: config.eos_token_id ?? null,
    rank: expected.rank,
    adapter: adapter!,
    gradients: gradients!,
    batch: expected.batch.map((d) => datum(d.tokens, d.targets, d.weights)),
    loss: expected.loss,
    logprobs: expected.logprobs,
    runs: {
      plain: { ...expected.runs.plain, final: plain! },
      clipped: { ...expected.runs.clipped, final: clipped! },
    },
    greedy: expected.greedy,
  };
}

/** A cross-entropy datum; weights default to 1. */
export function datum(
  tokens: readonly number[],
  targets: readonly number[],
  weights: readonly number[] = tokens.map(() => 1),
): DatumPayload {
  return {
    tokens,
    lossFnInputs: {
      target_tokens: { dtype: 'int64', shape: [targets.length], data: Float64Array.from(targets) },
      weights: { dtype: 'float32', shape: [weights.length], data: Float32Array.from(weights) },
    },
  };
}

export const LORA: LoraConfigPayload = {
  rank: 4,
  seed: 1,
  trainMlp: true,
  trainAttn: true,
  trainUnembed: true,
};

const sessions = new WeakMap<Backend, Promise<string>>();

/** The one session of an engine that tests need no more of. */
export function sessionOf(engine: Backend): Promise<string> {
  let session = sessions.get(engine);
  if (!session) {
    session = engine.createSession({ userMetadata: {} }).then(({ sessionId }) => sessionId);
    sessions.set(engine, session);
  }
  return session;
}

/** A model of the fixture; `adapter` overwrites its matrices. */
export async function createModel(
  engine: Engine,
  fixture: Fixture,
  adapter: Matrices | null = fixture.adapter,
): Promise<string> {
  const { modelId } = await engine.createModel({
    sessionId: await sessionOf(engine),
    baseModel: fixture.name,
    lora: { ...LORA, rank: fixture.rank },
    userMetadata: {},
  });
  if (adapter) engine.debugSetAdapter(modelId, adapter);
  return modelId;
}

/** Cross-entropy over `data`; gradients accumulate unless `forwardOnly`. */
export async function crossEntropy(
  engine: Engine,
  modelId: string,
  data: readonly DatumPayload[],
  forwardOnly = false,
): Promise<{ readonly logprobs: Float32Array[]; readonly loss: number }> {
  const out = await engine.forwardBackward({
    modelId,
    data,
    lossFn: 'cross_entropy',
    lossFnConfig: {},
    forwardOnly,
  });
  return {
    logprobs: out.lossFnOutputs.map((o) => o.logprobs!.data as Float32Array),
    loss: out.metrics['loss:sum']!,
  };
}

export const GREEDY: SamplingParamsPayload = {
  maxTokens: 12,
  seed: 0,
  stopStrings: [],
  stopTokens: [],
  stopAtEos: true,
  temperature: 0,
  topK: -1,
  topP: 1,
};

/** A sampler of the base model, or of a model's adapter as it is now. */
export async function createSampler(
  engine: Engine,
  of: { readonly base: string } | { readonly modelId: string },
): Promise<string> {
  const { samplerId } = await engine.createSampler(
    'base' in of
      ? { kind: 'base', sessionId: await sessionOf(engine), baseModel: of.base }
      : { kind: 'snapshot', modelId: of.modelId },
  );
  return samplerId;
}

/** The distribution of the token after `prompt`, from full forward passes: log p for every id of the vocabulary. */
export async function nextTokenLogprobs(
  engine: Engine,
  modelId: string,
  prompt: readonly number[],
  vocabSize: number,
): Promise<Float64Array> {
  const targets = prompt.slice(1);
  const data = Array.from({ length: vocabSize }, (_, v) => datum(prompt, [...targets, v]));
  const { logprobs } = await crossEntropy(engine, modelId, data, true);
  return Float64Array.from(logprobs, (row) => row.at(-1)!);
}

/** The names of everything that is encoded for the engine's GPU from now on, in order: `train.…`, `decode`, `prefill` …. */
export function encodedBy(engine: Engine): string[] {
  const { device } = gpuOf(engine);
  const log: string[] = [];
  const create = device.createCommandEncoder.bind(device);
  device.createCommandEncoder = (descriptor) => {
    log.push(descriptor?.label ?? '');
    return create(descriptor);
  };
  return log;
}
