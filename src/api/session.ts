/** What the clients of one `ServiceClient` share: the engine, and the session their work is filed under. */
import type { Backend, LoadCallOptions } from './contract/backend';
import { AbortedError, WorkerDiedError } from './contract/errors';
import type { LoadOptions, ProgressCallback } from './request';

export interface Disposable {
  dispose(): Promise<void>;
}

export interface SessionOptions {
  readonly userMetadata: Readonly<Record<string, string>>;
  readonly onProgress: ProgressCallback | undefined;
}

export class Session {
  readonly backend: Backend;
  readonly #options: SessionOptions;
  readonly #clients = new Set<Disposable>();
  #id: Promise<string> | undefined;
  #ended = false;

  constructor(backend: Backend, options: SessionOptions) {
    this.backend = backend;
    this.#options = options;
  }

  /** Made at the first call; a failure is not kept. */
  id(): Promise<string> {
    if (!this.#id) {
      const { userMetadata } = this.#options;
      const made = this.backend.createSession({ userMetadata }).then(({ sessionId }) => sessionId);
      made.catch(() => (this.#id = undefined));
      this.#id = made;
    }
    return this.#id;
  }

  /** Options of a call that may load a model, with the session's progress callback where it has none. */
  loading({ signal, onProgress = this.#options.onProgress }: LoadOptions): LoadCallOptions {
    return { signal, onProgress };
  }

  /** A client that holds memory, until it is disposed. @throws AbortedError where the session has ended, and frees it */
  add(client: Disposable): void {
    if (this.#ended) {
      // who waits for it is told why it is not there
      client.dispose().catch(() => undefined);
      throw new AbortedError('this ServiceClient was disposed before the client was made');
    }
    this.#clients.add(client);
  }

  /** Forgets a client that is disposed. @param unload frees what it holds; where the engine has ended, that is free */
  async remove(client: Disposable, unload: () => Promise<void>): Promise<void> {
    this.#clients.delete(client);
    try {
      await unload();
    } catch (error) {
      if (!(error instanceof AbortedError || error instanceof WorkerDiedError)) throw error;
    }
  }

  /** Disposes of its clients, and of those that are being made. */
  async disposeClients(): Promise<void> {
    this.#ended = true;
    await Promise.all([...this.#clients].map((client) => client.dispose()));
  }
}
