/** The base models on this device, each loaded once however many ask for it. */
import type { LoadCallOptions } from '../api/contract/backend';
import { loadModel, type LoadedModel, type LoadOptions } from '../models/load';
import { BaseModel } from './base-model';
import type { DeviceHost, Epoch } from './recovery';
import { gaveUp } from './scheduler';
import { SharedBase } from './shared-base';
import { decoderOf } from './tokenizer';

/** Finds and reads a model by name. */
export type ResolveModel = (
  name: string,
  options: Pick<LoadOptions, 'onProgress' | 'onConfig' | 'signal'>,
) => Promise<LoadedModel>;

interface Entry {
  /** once it is loaded */
  shared?: SharedBase;
  readonly loaded: Promise<SharedBase>;
  /** ends the loading; fired when nobody waits for it any more */
  readonly stop: AbortController;
  waiting: number;
}

export class Bases {
  readonly #entries = new Map<string, Entry>();

  constructor(
    private readonly host: DeviceHost,
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
    while (entry?.stop.signal.aborted && !entry.shared) {
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
      if (--entry.waiting === 0 && !entry.shared) entry.stop.abort();
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
      const epoch = await this.host.ready();
      const base = await BaseModel.upload(epoch.device, model, onProgress);
      epoch.check();
      return (entry.shared = new SharedBase(base, decoderOf(model.tokenizer)));
    };
    const entry: Entry = { loaded: Promise.resolve().then(load), stop, waiting: 0 };
    this.#entries.set(name, entry);
    entry.loaded.catch(() => this.#entries.delete(name));
    return entry;
  }

  /** Loads those that have clients again, onto another device; the others when they are next asked for. */
  async replace(epoch: Epoch): Promise<void> {
    for (const [name, { shared }] of this.#entries) {
      if (!shared) continue;
      if (shared.used) shared.replace(await BaseModel.upload(epoch.device, await this.resolve(name, {})));
      else this.#entries.delete(name);
    }
  }

  clear(): void {
    this.#entries.clear();
  }
}
