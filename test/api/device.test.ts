/** The `device` option, through the real worker. */
import { afterEach, describe, expect, it } from 'vitest';
import { profileOf } from '../../src/engine/devices/webgpu/adapter';
import * as tinker from '../../src/index';

const services: tinker.ServiceClient[] = [];
afterEach(() => Promise.all(services.splice(0).map((service) => service.dispose())));

function open(device?: 'auto' | 'webgpu' | 'wasm' | 'cpu'): tinker.ServiceClient {
  const service = new tinker.ServiceClient(device ? { device } : {});
  services.push(service);
  return service;
}

const tokens = [72, 101, 108, 108, 111];
const datum = new tinker.Datum({
  modelInput: tinker.ModelInput.fromInts(tokens.slice(0, -1)),
  lossFnInputs: { target_tokens: tokens.slice(1), weights: [1, 1, 1, 1] },
});

/** The losses of three steps, and what is sampled then. */
async function train(service: tinker.ServiceClient): Promise<{ losses: number[]; sampled: number[] }> {
  await using model = await service.createLoraTrainingClient({ rank: 4, seed: 3 });
  const losses: number[] = [];
  for (let i = 0; i < 3; i++) {
    const pass = model.forwardBackward([datum], 'cross_entropy');
    await model.optimStep(new tinker.AdamParams({ learningRate: 1e-3 }));
    losses.push((await pass).metrics['loss:sum']!);
  }
  await using sampler = await model.saveWeightsAndGetSamplingClient();
  const { sequences } = await sampler.sample({
    prompt: tinker.ModelInput.fromInts(tokens),
    numSamples: 1,
    samplingParams: { maxTokens: 8, temperature: 1, seed: 7 },
  });
  return { losses, sampled: [...sequences[0]!.tokens] };
}

describe('device', () => {
  it('is the best there is when none is named: a GPU, or WebAssembly where the adapter is none', async () => {
    const service = open();
    const { device } = await service.getServerCapabilities();
    expect(device.software).toBe(false);
    const adapter = await navigator.gpu.requestAdapter();
    if (profileOf(adapter!).kind === 'gpu') {
      expect(device).toMatchObject({ kind: 'webgpu', reason: 'a GPU is the fastest' });
    } else {
      expect(device.kind).toBe('wasm');
      expect(device.adapter).toMatch(/^onnxruntime-web/);
      expect(device.reason).toMatch(/^WebGPU is here computed by the processor .*, which is slow; ONNX/);
    }
    const stats = await service.stats();
    expect(stats.device).toEqual(device);
    expect(stats.recoveries).toEqual([]);
  });

  it('gives the same losses and the same tokens whichever it is', async () => {
    const onGpu = await train(open('webgpu'));
    const onWasm = await train(open('wasm'));
    expect(onWasm.sampled).toEqual(onGpu.sampled);
    onWasm.losses.forEach((loss, i) => expect(Math.abs(loss - onGpu.losses[i]!)).toBeLessThan(1e-4));
  });

  it("'cpu' is refused in a browser, with a word on what to use", async () => {
    const error = await open('cpu')
      .getServerCapabilities()
      .then(
        () => expect.fail('it resolved'),
        (reason: Error) => reason,
      );
    expect(error).toBeInstanceOf(tinker.DeviceUnavailableError);
    expect(error.message).toMatch(/'cpu' is native code, which a browser cannot run; ask for 'wasm'/);
  });
});
