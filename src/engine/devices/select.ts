/** Which device an engine computes on, and why. */
import { DeviceUnavailableError } from '../../api/contract/errors';
import type { ChosenDevice, DeviceKind } from '../../api/contract/types';
import type { Device, DeviceOpener } from './device';

/** A kind of device, or the best there is. */
export type DeviceWish = DeviceKind | 'auto';

export interface Choice {
  readonly device: Device;
  readonly reason: ChosenDevice['reason'];
}

/** Fastest first, were it not for WebGPU without a GPU. */
const ORDER: readonly DeviceKind[] = ['webgpu', 'cpu', 'wasm'];

const NAMES: Record<DeviceKind, string> = {
  webgpu: 'WebGPU',
  cpu: 'native ONNX Runtime',
  wasm: 'ONNX Runtime as WebAssembly',
};

/** What to say where a kind is not even tried. */
const ABSENT: Record<DeviceKind, string> = {
  webgpu: "device: 'webgpu' is for browsers; ask for 'cpu', 'wasm' or 'auto' here",
  cpu: "device: 'cpu' is native code, which a browser cannot run; ask for 'wasm', the same runtime as WebAssembly, or 'auto'",
  wasm: "device: 'wasm' is not part of this engine; ask for 'auto'",
};

/**
 * Opens a device: the kind that is asked for, or else a GPU by WebGPU, native code, WebAssembly, and only then
 * WebGPU that the processor computes.
 * @param avoid kinds that `auto` must not choose, with what is wrong with them
 * @throws DeviceUnavailableError
 */
export async function chooseDevice(
  openers: readonly DeviceOpener[],
  wish: DeviceWish,
  avoid: ReadonlyMap<DeviceKind, string> = new Map(),
): Promise<Choice> {
  if (wish !== 'auto')
    return { device: await openKind(openers, wish), reason: `device: '${wish}' was asked for` };
  const passed: string[] = [];
  let software: Device | undefined;
  for (const kind of ORDER) {
    const opener = openers.find((o) => o.kind === kind);
    if (!opener) continue;
    const name = NAMES[kind];
    const wrong = avoid.get(kind);
    if (wrong !== undefined) {
      passed.push(`${name} ${wrong}`);
      continue;
    }
    let device: Device;
    try {
      device = await opener.open();
    } catch (error) {
      passed.push(`${name} cannot be opened (${messageOf(error)})`);
      continue;
    }
    if (device.info.software) {
      software = device;
      passed.push(`${name} is here computed by the processor (${device.info.adapter}), which is slow`);
      continue;
    }
    await software?.dispose();
    return {
      device,
      reason: sentence([...passed, kind === 'webgpu' ? 'a GPU is the fastest' : `${name} is the next best`]),
    };
  }
  if (software) return { device: software, reason: sentence([...passed, 'nothing else is left']) };
  throw new DeviceUnavailableError(
    `No device can compute here: ${passed.join('; ') || 'this engine knows none'}.`,
  );
}

/** Opens a device of a kind, and of no other. @throws DeviceUnavailableError */
export async function openKind(openers: readonly DeviceOpener[], kind: DeviceKind): Promise<Device> {
  const opener = openers.find((o) => o.kind === kind);
  if (!opener) throw new DeviceUnavailableError(ABSENT[kind]);
  try {
    return await opener.open();
  } catch (error) {
    if (error instanceof DeviceUnavailableError) throw error;
    throw new DeviceUnavailableError(
      `device: '${kind}' cannot be opened (${messageOf(error)}); ask for 'auto' to have the next best`,
      { cause: error },
    );
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

const sentence = (parts: readonly string[]): string => parts.join('; ');
