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
  'getInfo' | 'createModel' | 'forwardBackward' | 'optimStep' | 'sample' | 'unloadModel'
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
  sample: (): Promise<SamplePayload> => {
    throw new errors.OutOfMemoryError('thrown before any promise');
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
