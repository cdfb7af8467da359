/**
 * Decoding one sample with a model of SmolLM2-135M's shape on the native ONNX Runtime, against the rate at which the
 * same runtime reads memory: every token reads all weights once, so that is the bound.
 */
import { availableParallelism } from 'node:os';
import type { SamplingParamsPayload } from '../../src/api/contract/types';
import { nativeOpener } from '../../src/engine/devices/onnx/native';
import { Trace } from '../../src/engine/trace';
import { op, type TensorRef } from '../../src/kernels/op';
import { loadAnyModel } from '../../src/node/models';
import { median, timed, type Bench } from '../harness';
import { LARGE, openEngine, randomWeights } from './llama';

const THREADS = availableParallelism();
const TOKENS = 48;
/** Of the memory that is read to measure how fast that goes: as large as the model, far beyond any cache. */
const [ROWS, COLUMNS] = [8192, 16384];

/** y (R, 1) = the largest of each row: one comparison for every four bytes that are read. */
const rowMaximum = op({
  name: 'row-maximum',
  outputs: ({ x }: { x: TensorRef }, _: Readonly<Record<string, never>>) => ({
    y: { shape: [x.shape[0]!, 1], dtype: 'f32' },
  }),
  webgpu: () => [],
  onnx: ({ inputs: { x } }, on) => ({
    y: on.graph.node('ReduceMax', [on.value(x), on.graph.i64([1])], { keepdims: 1 }),
  }),
});

/** Reads half a gigabyte; its bytes. */
async function reader(): Promise<{
  read: () => Promise<unknown>;
  bytes: number;
  dispose: () => Promise<void>;
}> {
  const device = await nativeOpener({ threads: THREADS }).open();
  const trace = new Trace('read');
  const x = trace.state('x', [ROWS, COLUMNS], 'f32');
  trace.output('y', trace.apply(rowMaximum, { x }, {}).y);
  const memory = device.memory.upload('x', new Float32Array(ROWS * COLUMNS).fill(1));
  const plan = (await device.compile(trace, { capacity: {} })).bind('read', { x: memory });
  return {
    read: () => plan.run({ values: {}, read: ['y'] }),
    bytes: 4 * ROWS * COLUMNS,
    dispose: () => device.dispose(),
  };
}

const bench: Bench = async (context) => {
  const name = `node decode ${LARGE.name.split(',')[0]}, 1 sample, ${THREADS} threads`;
  const { read, bytes, dispose } = await reader();
  const weights = randomWeights(LARGE);
  const perToken = [...weights.values()].reduce((n, { data }) => n + data.byteLength, 0);
  const engine = await openEngine(nativeOpener({ threads: THREADS }), LARGE, weights, loadAnyModel);
  const { sessionId } = await engine.createSession({ userMetadata: {} });
  const { samplerId } = await engine.createSampler({ kind: 'base', sessionId, baseModel: LARGE.name });
  // from here on the engine's copy is the only one
  weights.clear();
  const params: SamplingParamsPayload = {
    maxTokens: TOKENS,
    seed: 1,
    stopStrings: [],
    stopTokens: [],
    stopAtEos: false,
    temperature: 1,
    topK: -1,
    topP: 1,
  };
  /** milliseconds between one token and the next */
  const decode = async (): Promise<number> => {
    const at: number[] = [];
    await engine.sample(
      {
        samplerId,
        prompt: [1, 2, 3, 4, 5, 6, 7, 8],
        numSamples: 1,
        params,
        promptLogprobs: false,
        topkPromptLogprobs: 0,
      },
      { onTokens: () => at.push(performance.now()) },
    );
    return median(at.slice(1).map((t, i) => t - at[i]!));
  };
  await decode();
  await read();
  const [tokens, bound]: [number[], number[]] = [[], []];
  for (let round = 0; round < context.rounds; round++) {
    // the time that reading the weights alone takes
    bound.push(((await timed(read)) * perToken) / bytes);
    tokens.push(await decode());
  }
  context.row(name, 'webtinker', 1000 / median(tokens), 'tokens/s', 'higher');
  context.row(name, 'memory', perToken / 1e6 / median(bound), 'GB/s', 'higher');
  context.row(name, 'part of the memory bound', median(bound.map((b, i) => b / tokens[i]!)), '×', 'higher');
  await dispose();
  await engine.dispose();
};

export default bench;
