/** The base models on this device, each loaded once however many ask for it. */
import type { LoadCallOptions } from '../api/contract/backend';
import { loadModel, type LoadedModel, type LoadOptions } from '../models/load';
import { BaseModel } from './base-model';
import type { Device } from './devices/device';
import { gaveUp } from './scheduler';
import { SharedBase } from './shared-base';
import { decoderOf } from './tokenizer';

/** Finds and reads a model by name. */
export type ResolveModel = (
  name: string,
  options: Pick<LoadOptions, 'onProgress' | 'onConfig' | 'signal'>,
) => Promise<LoadedModel>;

interface Entry {
  readonly loaded: Promise<SharedBase>;
  /** ends the loading; fired when nobody waits for it any more */
  readonly stop: AbortController;
  waiting: number;
  done: boolean;
}

export class Bases {
  readonly #entries = new Map<string, Entry>();

  constructor(
    private readonly device: Device,
    private readonly resolve: ResolveModel = loadModel,
  ) {}

  /**
   * The base model of this name. A failure is forgotten, so that a later call tries again.
   * @param onConfig called if this call starts the loading, when it is known what the model is
   * @throws AbortedError when `signal` fires before it is loaded; and as `loadModel`
   */
  async get(
    name: string,
    { onProgress, signal }: LoadCallOptions = {},
    onConfig?: LoadOptions['onConfig'],
  ): Promise<SharedBase> {
    let entry = this.#entries.get(name);
    // one that is being stopped settles soon, and mostly goes
    while (entry?.stop.signal.aborted && !entry.done) {
      await entry.loaded.catch(() => undefined);
      entry = this.#entries.get(name);
    }
    if (signal?.aborted) throw gaveUp(signal);
    entry ??= this.#start(name, onProgress, onConfig);
    entry.waiting++;
    let giveUp: (() => void) | undefined;
    try {
      if (!signal) return await entry.loaded;
      const given = new Promise<never>((_, reject) => {
        giveUp = () => reject(gaveUp(signal));
        signal.addEventListener('abort', giveUp);
      });
      return await Promise.race([entry.loaded, given]);
    } finally {
      if (giveUp) signal?.removeEventListener('abort', giveUp);
      if (--entry.waiting === 0 && !entry.done) entry.stop.abort();
    }
  }

  #start(name: string, onProgress: LoadCallOptions['onProgress'], onConfig: LoadOptions['onConfig']): Entry {
    const stop = new AbortController();
    const load = async (): Promise<SharedBase> => {
      const model = await this.resolve(name, {
        signal: stop.signal,
        ...(onProgress && { onProgress }),
        ...(onConfig && { onConfig }),
      });
      return new SharedBase(
        await BaseModel.upload(this.device, model, onProgress),
        decoderOf(model.tokenizer),
      );
    };
    const entry: Entry = { loaded: load(), stop, waiting: 0, done: false };
    this.#entries.set(name, entry);
    entry.loaded.then(
      () => (entry.done = true),
      () => this.#entries.delete(name),
    );
    return entry;
  }

  clear(): void {
    this.#entries.clear();
  }
}
