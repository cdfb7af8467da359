/** What the GPU refuses or loses becomes a typed error, and costs nothing that was there before. */
import { afterEach, describe, expect, it } from 'vitest';
import { InternalServerError, OutOfMemoryError } from '../../src/api/contract/errors';
import type { ForwardBackwardRequest } from '../../src/api/contract/backend';
import { BaseModel } from '../../src/engine/base-model';
import { DecodeContext } from '../../src/engine/decode-context';
import { WebGpuDevice, webgpuOpener } from '../../src/engine/devices/webgpu/webgpu-device';
import { Engine } from '../../src/engine/engine';
import { gpuOf, resolveFixture, sessionOf } from '../support/engine';
import { gpu } from '../support/gpu';

let engine: Engine | undefined;
afterEach(async () => {
  await engine?.dispose();
  engine = undefined;
});

const LORA = { rank: 4, seed: 1, trainMlp: true, trainAttn: true, trainUnembed: true };

/** A model on the default base, and a request for it. */
async function modelAndRequest(): Promise<[Engine, ForwardBackwardRequest]> {
  engine = await Engine.create({ devices: [webgpuOpener()], device: 'webgpu' });
  const { modelId } = await engine.createModel({
    sessionId: await sessionOf(engine),
    baseModel: 'webtinker/pocket',
    lora: LORA,
    userMetadata: {},
  });
  const tokens = [72, 101, 108, 108];
  const tensor = (dtype: 'int64' | 'float32', values: number[]) => ({
    dtype,
    shape: [values.length],
    data: dtype === 'int64' ? Float64Array.from(values) : Float32Array.from(values),
  });
  const lossFnInputs = {
    target_tokens: tensor('int64', [101, 108, 108, 111]),
    weights: tensor('float32', [1, 1, 1, 1]),
  };
  const data = [{ tokens, lossFnInputs }];
  return [engine, { modelId, data, lossFn: 'cross_entropy', lossFnConfig: {}, forwardOnly: false }];
}

describe('a GPU that refuses', () => {
  it('fails the request during which it complained, and only that one', async () => {
    const [engine, request] = await modelAndRequest();
    const before = await engine.forwardBackward(request);
    const { device } = gpuOf(engine);
    const small = device.createBuffer({ size: 16, usage: GPUBufferUsage.COPY_DST });
    device.queue.writeBuffer(small, 0, new Uint8Array(16));
    const encoder = device.createCommandEncoder();
    encoder.clearBuffer(small, 0, 64);
    device.queue.submit([encoder.finish()]);
    await expect(engine.forwardBackward(request)).rejects.toThrow(InternalServerError);
    const after = await engine.forwardBackward(request);
    expect(after.metrics['loss:sum']).toBe(before.metrics['loss:sum']);
  });

  it('that is out of memory names what it lacks room for, and frees what it had', async () => {
    const { memory, counters, device } = await gpu();
    const bytes = counters.bytes;
    const tooLarge = device.limits.maxBufferSize + 256;
    const attempt = memory.allocate('a test', () => {
      memory.storage('fits', 1024);
      memory.storage('does not fit', tooLarge);
    });
    await expect(attempt).rejects.toThrow(OutOfMemoryError);
    await expect(attempt).rejects.toThrow(/does not fit needs a buffer of/);
    expect(counters.bytes).toBe(bytes);
  });

  it('that is out of memory for a request frees its plans, too', async () => {
    const context = await gpu();
    const base = await BaseModel.upload(new WebGpuDevice(context), await resolveFixture('tied', {}));
    const { bytes } = context.counters;
    const capacity = { batch: 1, rows: 2 ** 28, steps: 32, stops: 16 };
    await expect(DecodeContext.create(base, null, capacity)).rejects.toThrow(OutOfMemoryError);
    expect(context.counters.bytes).toBe(bytes);
  });
});
