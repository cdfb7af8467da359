/** What the clients of one `ServiceClient` share: the engine, and the session their work is filed under. */
import type { Backend, LoadCallOptions } from './contract/backend';
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

  /** A client that holds memory, until it is disposed. */
  add(client: Disposable): void {
    this.#clients.add(client);
  }

  remove(client: Disposable): void {
    this.#clients.delete(client);
  }

  async disposeClients(): Promise<void> {
    await Promise.all([...this.#clients].map((client) => client.dispose()));
  }
}
