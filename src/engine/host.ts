/** An engine in a worker, of whatever kind the platform has, as the client's side sees it. */
import type { Endpoint } from 'comlink';
import type { DeviceKind } from '../api/contract/types';

/** What an engine is told before its first call. */
export interface EngineSetup {
  /** what to compute on; `auto`: the best there is */
  readonly device: DeviceKind | 'auto';
  /** the folder of checkpoints, where the platform has folders; null: the platform's own place */
  readonly store: string | null;
}

/** What runs engines here: a browser, or Node. */
export interface Platform {
  /** Starts a worker with an engine. */
  start(): EngineHost;
  /** whether checkpoints can go to a folder of the caller's choice */
  readonly folders: boolean;
}

/** A worker with an engine. */
export interface EngineHost {
  /** where Comlink speaks with it */
  readonly endpoint: Endpoint;
  /** Calls `onDeath` with a reason, at least once, when it has ended or can no longer be understood. */
  watch(onDeath: (reason: string) => void): void;
  /** Says whether calls wait for it. */
  waiting(some: boolean): void;
  /** The same blob in a form that it can read. */
  readable(blob: Blob): Promise<Blob>;
  /** Ends it, if it has not ended. */
  terminate(): Promise<void>;
}
