/** Compiled graphs. Plans of equal graphs share one: sizes known at run time are no part of it. */
import type { Graph } from '../../../onnx/graph';
import { serialize } from '../../../onnx/serialize';
import type { DeviceCounters } from '../device';
import type { WorkQueue } from './queue';
import type { OnnxRuntime, OrtSession } from './runtime';

interface Entry {
  readonly model: Uint8Array<ArrayBuffer>;
  readonly files: ReadonlyMap<string, ArrayBuffer>;
  readonly session: Promise<OrtSession>;
  users: number;
}

/** For a trace that is left to the host altogether: the runtime takes no graph without nodes. */
const NOTHING: OrtSession = { run: () => Promise.resolve({}), release: () => Promise.resolve() };

/** A session that a plan uses until it releases it. */
export interface TakenSession {
  readonly session: OrtSession;
  release(): void;
}

export class Sessions {
  readonly #entries = new Set<Entry>();

  constructor(
    readonly runtime: OnnxRuntime,
    readonly queue: WorkQueue,
    readonly counters: DeviceCounters,
  ) {}

  /** @param files that constants of the graph lie in, by their location */
  async take(graph: Graph, files: ReadonlyMap<string, ArrayBuffer>): Promise<TakenSession> {
    const entry = this.#entryOf(graph, files);
    entry.users++;
    return { session: await entry.session, release: () => this.#release(entry) };
  }

  /** Compiles a graph for who takes it later. */
  async prepare(graph: Graph): Promise<void> {
    await this.#entryOf(graph, new Map()).session;
  }

  /** Releases every session, once what was asked before is done. */
  async dispose(): Promise<void> {
    const entries = [...this.#entries];
    this.#entries.clear();
    await Promise.allSettled(entries.map(async ({ session }) => (await session).release()));
  }

  #entryOf(graph: Graph, files: ReadonlyMap<string, ArrayBuffer>): Entry {
    const model = serialize(graph);
    for (const entry of this.#entries) {
      if (equal(entry.model, model) && sameFiles(entry.files, files)) return entry;
    }
    const session = this.queue.enqueue(`compiling '${graph.name}'`, () => {
      if (graph.nodes.length === 0) return Promise.resolve(NOTHING);
      this.counters.pipelines++;
      return this.runtime.createSession(model, files);
    });
    const entry: Entry = { model, files, session, users: 0 };
    this.#entries.add(entry);
    session.catch(() => this.#entries.delete(entry));
    return entry;
  }

  #release(entry: Entry): void {
    if (--entry.users > 0 || !this.#entries.delete(entry)) return;
    // after a loss there is nothing to release
    void this.queue
      .enqueue('releasing a session', async () => (await entry.session).release())
      .catch(() => undefined);
  }
}

const equal = (a: Uint8Array, b: Uint8Array): boolean =>
  a.length === b.length && a.every((x, i) => x === b[i]);

const sameFiles = (a: ReadonlyMap<string, ArrayBuffer>, b: ReadonlyMap<string, ArrayBuffer>): boolean =>
  a.size === b.size && [...a].every(([name, data]) => b.get(name) === data);
