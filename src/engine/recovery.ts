/**
 * The device under the engine, which can go away: a driver that is reset, a GPU process that is ended, a runtime
 * that breaks down. Then another is opened, of the same kind or, after repeated losses, of the next; the engine
 * puts back on it what it keeps on the host, and what was under way is done again.
 */
import { AbortedError, DeviceLostError, InternalServerError, TinkerError } from '../api/contract/errors';
import type { ChosenDevice, DeviceKind, RecoveryPayload } from '../api/contract/types';
import type { Device, DeviceOpener } from './devices/device';
import { chooseDevice, openKind, type Choice, type DeviceWish } from './devices/select';
import { Turns } from './turns';

/** Losses of one kind of device, with nothing done in between, after which another kind is taken. */
const LOSSES = 3;

/** Losses that one request is part of, after which it is not tried again: it may be the reason. */
export const ATTEMPTS = 6;

/** How long after a failure the device may say that it is lost, ms. */
const NOTICE = 500;

/** A device from its opening to its end, and the turns at it. What is made on it must not outlive it. */
export class Epoch {
  readonly turns = new Turns();
  /** why it ended; once it has */
  #loss: string | undefined;
  readonly ended: Promise<void>;
  #end!: () => void;

  constructor(readonly device: Device) {
    this.ended = new Promise((resolve) => (this.#end = resolve));
  }

  get over(): boolean {
    return this.#loss !== undefined;
  }

  get loss(): string {
    return this.#loss ?? '';
  }

  end(loss: string): void {
    this.#loss ??= loss;
    this.#end();
  }

  /** @throws DeviceLostError when it is over: nothing may be kept that was made in it */
  check(): void {
    if (this.over) throw new DeviceLostError(this.loss);
  }
}

/** Who works on a device. */
export interface DeviceOwner {
  /** Puts on a new device what is kept on the host. @returns requests done again */
  replace(epoch: Epoch): Promise<number>;
  /** Rejects the requests under way: no device is left. */
  giveUp(reason: DeviceLostError): void;
}

export class DeviceHost {
  readonly recoveries: RecoveryPayload[] = [];
  #epoch!: Epoch;
  #reason = '';
  /** under way; rejects when no device is left */
  #recovery: Promise<void> | undefined;
  /** of the kind in use, since something was done */
  #losses = 0;
  /** kinds not to be taken again, and what is wrong with them */
  readonly #avoid = new Map<DeviceKind, string>();
  #fault: InternalServerError | undefined;
  #ended = false;

  /** whose device it is */
  owner: DeviceOwner | undefined;

  private constructor(
    private readonly openers: readonly DeviceOpener[],
    private readonly wish: DeviceWish,
  ) {}

  /** @throws DeviceUnavailableError */
  static async open(openers: readonly DeviceOpener[], wish: DeviceWish): Promise<DeviceHost> {
    const host = new DeviceHost(openers, wish);
    host.#begin(await chooseDevice(openers, wish));
    return host;
  }

  get device(): Device {
    return this.#epoch.device;
  }

  chosen(): ChosenDevice {
    return { ...this.device.info, reason: this.#reason };
  }

  /**
   * The device to work on, when there is one that can be worked on. If none could be opened again, this tries once more.
   * @throws DeviceLostError, AbortedError
   */
  async ready(): Promise<Epoch> {
    do {
      this.checkOpen();
      if (this.#epoch.over) this.#recover();
      await this.#recovery;
    } while (this.#epoch.over);
    this.checkOpen();
    return this.#epoch;
  }

  /** When no recovery is under way, however the last one ended. */
  async settled(): Promise<void> {
    while (this.#recovery) await this.#recovery.catch(() => undefined);
  }

  /** Runs what can be run again, as often as the device goes away meanwhile. */
  async use<T>(job: (epoch: Epoch) => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      const epoch = await this.ready();
      try {
        const result = await job(epoch);
        this.checkFault();
        this.progress();
        return result;
      } catch (error) {
        if (!(await this.isLoss(epoch, error))) throw this.reasonOf(error);
        if (attempt >= ATTEMPTS) throw tooOften(epoch);
      }
    }
  }

  /** Whether a failure in an epoch is the end of its device, which may be known a moment later. */
  async isLoss(epoch: Epoch, error: unknown): Promise<boolean> {
    if (this.#ended || (error instanceof TinkerError && !(error instanceof DeviceLostError))) return false;
    if (!epoch.over) await Promise.race([epoch.ended, new Promise((late) => setTimeout(late, NOTICE))]);
    return epoch.over;
  }

  /** What a failure that is no loss is to its caller. */
  reasonOf(error: unknown): unknown {
    const typed = error instanceof TinkerError && !(error instanceof DeviceLostError);
    if (this.#ended && !typed) return disposed();
    return this.#takeFault() ?? error;
  }

  /** @throws InternalServerError if the device complained: results since the last call are not to be trusted */
  checkFault(): void {
    const fault = this.#takeFault();
    if (fault) throw fault;
  }

  /** Says that something was done: the device works. */
  progress(): void {
    this.#losses = 0;
  }

  /** @throws AbortedError when the engine has ended */
  checkOpen(): void {
    if (this.#ended) throw disposed();
  }

  async dispose(): Promise<void> {
    this.#ended = true;
    await this.settled();
    await this.device.dispose();
  }

  #begin({ device, reason }: Choice): Epoch {
    const epoch = new Epoch(device);
    this.#epoch = epoch;
    this.#reason = reason;
    this.#fault = undefined;
    device.onFault = (message) => {
      if (this.#epoch === epoch) this.#fault ??= new InternalServerError(`The device failed: ${message}`);
    };
    void device.lost.then(({ message }) => {
      epoch.end(message);
      if (!this.#ended && this.#epoch === epoch) this.#recover();
    });
    return epoch;
  }

  #recover(): void {
    if (this.#recovery) return;
    const recovery = this.#recoverNow().finally(() => {
      this.#recovery = undefined;
    });
    this.#recovery = recovery;
    recovery.then(
      // it may have been lost again in the last moment
      () => this.#epoch.over && !this.#ended && this.#recover(),
      // looked at by whoever waits for it
      () => undefined,
    );
  }

  async #recoverNow(): Promise<void> {
    const { loss } = this.#epoch;
    const from = this.device.info.kind;
    try {
      for (;;) {
        this.checkOpen();
        // what is lost gives back what it still holds on the host
        await this.device.dispose().catch(() => undefined);
        const epoch = this.#begin(await this.#reopen());
        try {
          const replayed = (await this.owner?.replace(epoch)) ?? 0;
          epoch.check();
          const to = this.device.info.kind;
          this.recoveries.push({ time: new Date().toISOString(), from, to, reason: loss, replayed });
          return;
        } catch (error) {
          epoch.end(messageOf(error));
        }
      }
    } catch (error) {
      this.#losses = 0;
      this.#avoid.clear();
      this.checkOpen();
      const reason = new DeviceLostError(
        `The device is gone (${loss}), and no other can be opened: ${messageOf(error)}. Checkpoints can still be read; the next call tries again.`,
        { cause: error },
      );
      this.owner?.giveUp(reason);
      throw reason;
    }
  }

  /** One of the same kind, unless that was lost too often or cannot be opened: then the next, if any may be taken. */
  async #reopen(): Promise<Choice> {
    const { loss, device } = this.#epoch;
    const { kind, software } = device.info;
    let trouble = `was lost ${++this.#losses} times in a row (${loss})`;
    if (this.#losses < LOSSES) {
      try {
        const again = await openKind(this.openers, kind);
        // browsers whose GPU fails take the processor for one
        if (again.info.software === software || this.wish !== 'auto')
          return { device: again, reason: this.#reason };
        await again.dispose();
        trouble = `was lost (${loss}), and only one that the processor computes is left of it`;
      } catch (error) {
        trouble = `was lost (${loss}) and cannot be opened again (${messageOf(error)})`;
      }
    }
    if (this.wish !== 'auto') throw new DeviceLostError(`device: '${kind}', which was asked for, ${trouble}`);
    this.#avoid.set(kind, trouble);
    this.#losses = 0;
    return chooseDevice(this.openers, 'auto', this.#avoid);
  }

  #takeFault(): InternalServerError | undefined {
    const fault = this.#fault;
    this.#fault = undefined;
    return fault;
  }
}

export const tooOften = ({ loss }: Epoch): DeviceLostError =>
  new DeviceLostError(
    `The device was lost each of the ${ATTEMPTS} times that this request ran (${loss}); it may be too much for this machine.`,
  );

export const disposed = (): AbortedError => new AbortedError('the engine was disposed');

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
