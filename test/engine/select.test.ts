/** Which device is chosen, and what is said about it. */
import { expect, it } from 'vitest';
import { DeviceUnavailableError } from '../../src/api/contract/errors';
import type { Device, DeviceOpener } from '../../src/engine/devices/device';
import { wasmOpener } from '../../src/engine/devices/onnx/wasm';
import { chooseDevice } from '../../src/engine/devices/select';
import { webgpuOpener } from '../../src/engine/devices/webgpu/webgpu-device';
import { gpuInRole } from '../support/engine';

const wasm = wasmOpener();
const software = webgpuOpener(gpuInRole({ kind: 'software', subgroups: false }));
const hardware = webgpuOpener(gpuInRole({ kind: 'gpu', subgroups: false }));
const noGpu = webgpuOpener({ requestAdapter: async () => null } as unknown as GPU);

async function chosen(
  openers: readonly DeviceOpener[],
  wish: Parameters<typeof chooseDevice>[1],
): Promise<[device: Device, reason: string]> {
  const { device, reason } = await chooseDevice(openers, wish);
  await device.dispose();
  return [device, reason];
}

const refusal = (promise: Promise<unknown>): Promise<Error> =>
  promise.then(
    () => expect.fail('it resolved'),
    (error: Error) => error,
  );

it('auto takes a GPU before anything else', async () => {
  const [{ info }, reason] = await chosen([wasm, hardware], 'auto');
  expect(info).toMatchObject({ kind: 'webgpu', software: false });
  expect(reason).toBe('a GPU is the fastest');
});

it('auto takes WebAssembly where WebGPU is the processor’s work, or is not there', async () => {
  const [{ info }, reason] = await chosen([software, wasm], 'auto');
  expect(info.kind).toBe('wasm');
  expect(info.adapter).toMatch(/^onnxruntime-web \d/);
  expect(reason).toMatch(
    /^WebGPU is here computed by the processor \(swiftshader\), which is slow; ONNX Runtime as WebAssembly is the next best$/,
  );
  const [other, why] = await chosen([noGpu, wasm], 'auto');
  expect(other.info.kind).toBe('wasm');
  expect(why).toMatch(/^WebGPU cannot be opened \(WebGPU is present but offers no adapter.*\); ONNX Runtime/);
});

it('auto takes WebGPU without a GPU only when nothing else is left', async () => {
  const broken: DeviceOpener = { kind: 'wasm', open: () => Promise.reject(new TypeError('no such file')) };
  const [{ info }, reason] = await chosen([software, broken], 'auto');
  expect(info).toMatchObject({ kind: 'webgpu', software: true });
  expect(reason).toMatch(/WebAssembly cannot be opened \(no such file\); nothing else is left$/);
});

it('a kind that is asked for is opened, or the error says why not; never another', async () => {
  const [{ info }, reason] = await chosen([wasm, software], 'webgpu');
  expect(info).toMatchObject({ kind: 'webgpu', software: true });
  expect(reason).toBe("device: 'webgpu' was asked for");

  const inBrowser = await refusal(chooseDevice([software, wasm], 'cpu'));
  expect(inBrowser).toBeInstanceOf(DeviceUnavailableError);
  expect(inBrowser.message).toMatch(/a browser cannot run; ask for 'wasm'/);
  expect((await refusal(chooseDevice([noGpu, wasm], 'webgpu'))).message).toMatch(/offers no adapter/);
  const broken: DeviceOpener = { kind: 'wasm', open: () => Promise.reject(new TypeError('no such file')) };
  const error = await refusal(chooseDevice([software, broken], 'wasm'));
  expect(error).toBeInstanceOf(DeviceUnavailableError);
  expect(error.message).toBe(
    "device: 'wasm' cannot be opened (no such file); ask for 'auto' to have the next best",
  );
});

it('where nothing can be opened, the error names all that was tried', async () => {
  const broken: DeviceOpener = { kind: 'wasm', open: () => Promise.reject(new TypeError('no such file')) };
  const error = await refusal(chooseDevice([noGpu, broken], 'auto'));
  expect(error).toBeInstanceOf(DeviceUnavailableError);
  expect(error.message).toMatch(
    /^No device can compute here: WebGPU cannot.*; ONNX Runtime as WebAssembly cannot/,
  );
});
