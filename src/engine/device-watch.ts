/** Sees to it that no result is trusted during which the device was lost or complained. */
import { AbortedError, DeviceLostError, InternalServerError, TinkerError } from '../api/contract/errors';
import type { Device } from './devices/device';

export class DeviceWatch {
  #lost: DeviceLostError | undefined;
  /** an error the device reported and nobody asked for: results since then are not to be trusted */
  #fault: InternalServerError | undefined;
  #ended = false;

  constructor(device: Device) {
    void device.lost.then(({ message }) => {
      this.#lost = new DeviceLostError(`The device is gone: ${message}; reload to start again.`);
    });
    device.onFault = (message) => (this.#fault ??= new InternalServerError(`The device failed: ${message}`));
  }

  /** Says that the device is given back on purpose. */
  end(): void {
    this.#ended = true;
  }

  /** Failures after the device was lost are its loss; a result during which it complained is none. */
  async guard<T>(job: () => Promise<T>): Promise<T> {
    this.checkOpen();
    if (this.#lost) throw this.#lost;
    let result: T;
    try {
      result = await job();
    } catch (error) {
      if (!(error instanceof TinkerError)) this.checkOpen();
      throw this.#lost ?? this.#takeFault() ?? error;
    }
    const fault = this.#takeFault();
    if (fault) throw fault;
    return result;
  }

  /** @throws AbortedError when the engine has ended */
  checkOpen(): void {
    if (this.#ended) throw new AbortedError('the engine was disposed');
  }

  #takeFault(): InternalServerError | undefined {
    const fault = this.#fault;
    this.#fault = undefined;
    return fault;
  }
}
