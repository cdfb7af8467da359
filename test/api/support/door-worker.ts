/**
 * A worker whose backend does what its argument says, to test the door itself:
 * what crosses it, in which order, and what happens when it falls shut.
 */
import type { Backend } from '../../../src/api/contract/backend';
import * as errors from '../../../src/api/contract/errors';
import type { ModelInfo, SamplePayload, TensorPayload } from '../../../src/api/contract/types';
import { serve } from '../../../src/engine/rpc';

const calls: string[] = [];
let opens = 0;

const info = (modelId: string): ModelInfo => ({
  modelId,
  modelData: { arch: '', modelName: '', tokenizerId: '' },
  isLora: true,
  loraRank: 1,
  modelName: calls.join(' '),
});

const acts: Record<string, () => Promise<ModelInfo> | ModelInfo> = {
  bad: () => {
    throw new errors.BadRequestError('data[0].x: no', {
      body: { detail: 'd' },
      cause: new TypeError('deep'),
    });
  },
  full: () => Promise.reject(new errors.StorageFullError('no room', { cause: new Error('quota') })),
  conflict: () => Promise.reject(new errors.ConflictError('there already')),
  lost: () => Promise.reject(new errors.DeviceLostError('gone')),
  bug: () => Promise.reject(new RangeError('off by one')),
  hang: () => new Promise(() => undefined),
  slow: () => new Promise((done) => setTimeout(() => done(info('slow')), 60)),
  close: () => {
    close();
    return new Promise(() => undefined);
  },
  crash: () => {
    setTimeout(() => {
      throw new Error('stray');
    });
    return new Promise(() => undefined);
  },
};

const backend: Pick<
  Backend,
  | 'getInfo'
  | 'createModel'
  | 'forwardBackward'
  | 'optimStep'
  | 'sample'
  | 'unloadModel'
  | 'getCheckpointArchive'
  | 'importCheckpoint'
> = {
  getInfo: async (what) => {
    calls.push(what);
    return (acts[what] ?? (() => info(what)))();
  },
  createModel: async ({ baseModel }, { onProgress } = {}) => {
    for (const loaded of [1, 2]) onProgress?.({ phase: 'download', what: baseModel, loaded, total: 2 });
    await new Promise((done) => setTimeout(done, 20));
    setTimeout(() => onProgress?.({ phase: 'compile', what: 'too late', loaded: 0, total: 0 }), 1);
    return info(baseModel);
  },
  forwardBackward: ({ modelId, data }) => {
    calls.push(`fb:${modelId}`);
    const outputs = data.map(({ lossFnInputs }) => ({ logprobs: lossFnInputs.weights as TensorPayload }));
    return Promise.resolve({ lossFnOutputType: '', lossFnOutputs: outputs, metrics: {} });
  },
  optimStep: ({ modelId }) => {
    calls.push(`os:${modelId}`);
    return Promise.resolve({ metrics: {} });
  },
  sample: ({ prompt, numSamples }, { signal, onTokens } = {}): Promise<SamplePayload> => {
    if (!prompt) throw new errors.OutOfMemoryError('thrown before any promise');
    return new Promise((resolve, reject) => {
      signal?.addEventListener('abort', () => reject(new errors.AbortedError('stopped')));
      for (let i = 0; i < numSamples; i++)
        onTokens?.({ sequence: 0, tokens: [i], logprobs: [0], stopReason: null });
      // a request of no sequences waits for its signal
      if (numSamples === 0) return;
      resolve({
        sequences: [],
        promptLogprobs: null,
        topkPromptLogprobs: null,
        promptCacheHitTokens: calls.length,
      });
      setTimeout(() => onTokens?.({ sequence: 0, tokens: [-1], logprobs: [0], stopReason: 'stop' }), 5);
    });
  },
  getCheckpointArchive: async (path) => ({ kind: 'blob', blob: new Blob(['archive of ', path]) }),
  importCheckpoint: async ({ source, name }) => {
    const files = source instanceof Blob ? { tar: source } : source;
    const text = await Promise.all(Object.entries(files).map(async ([k, v]) => `${k}:${await v.text()}`));
    return {
      checkpointId: `weights/${name}`,
      checkpointType: 'training',
      time: '',
      tinkerPath: text.join(' '),
      sizeBytes: 0,
      public: false,
      expiresAt: null,
    };
  },
  unloadModel: () => Promise.resolve(),
};

// slow, so that calls arrive meanwhile; where asked, the first opening fails as where there is no GPU
const failures = location.search.includes('fail-once') ? 1 : 0;
serve(async () => {
  await new Promise((done) => setTimeout(done, 30));
  if (opens++ < failures) throw new errors.WebGPUUnavailableError('not yet');
  return backend as Backend;
});
