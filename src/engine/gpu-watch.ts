/** Sees to it that no result is trusted during which the GPU was lost or complained. */
import { AbortedError, DeviceLostError, InternalServerError, TinkerError } from '../api/contract/errors';

export class GpuWatch {
  #lost: DeviceLostError | undefined;
  /** an error the GPU reported and nobody asked for: results since then are not to be trusted */
  #fault: InternalServerError | undefined;
  #ended = false;

  constructor(device: GPUDevice) {
    void device.lost.then(({ reason, message }) => {
      if (reason === 'destroyed' && this.#ended) return;
      this.#lost = new DeviceLostError(`The GPU was lost (${message || reason}); reload to start again.`);
    });
    device.addEventListener('uncapturederror', ({ error }) => {
      this.#fault ??= new InternalServerError(`The GPU refused a command: ${error.message}`);
    });
  }

  /** Says that the GPU is given back on purpose. */
  end(): void {
    this.#ended = true;
  }

  /** Failures after the GPU was lost are its loss; a result during which the GPU complained is none. */
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
