/** What checkpoints take of the room that the browser grants, and whether it has promised to keep them. */
import { byId, counted, fillFacts, formatBytes } from './dom';
import type { Session } from './session';

export class StoragePanel {
  readonly #session: Session;

  constructor(session: Session) {
    this.#session = session;
    byId('storage-persist').addEventListener('click', () => void this.#persist());
  }

  async refresh(): Promise<void> {
    const { kind, bytes, runs, estimate, persisted } = await this.#session.rest.getStorageUsage();
    const share = (part: number) => `${(100 * part) / (estimate?.quota ?? 1)}%`;
    byId('storage-bar').hidden = estimate === null;
    byId('storage-checkpoints').style.width = share(bytes);
    byId('storage-rest').style.width = share(Math.max(0, (estimate?.usage ?? 0) - bytes));
    fillFacts(byId('storage-facts'), [
      ['Checkpoints', `${formatBytes(bytes)} in ${counted(runs.length, 'run')}`],
      ...(estimate
        ? ([
            ['This site in all', formatBytes(estimate.usage)],
            ['The browser allows', formatBytes(estimate.quota)],
          ] as const)
        : []),
    ]);
    byId('storage-kept').textContent =
      kind === 'memory'
        ? 'This browser gives the page no files of its own, as in some private windows: what is saved ends with the page.'
        : persisted
          ? 'The browser has promised to keep this until you delete it.'
          : 'The browser keeps this until the disk runs short; then it may delete it. Download what you cannot lose.';
    byId('storage-persist').hidden = kind === 'memory' || persisted !== false;
  }

  async #persist(): Promise<void> {
    const granted = await navigator.storage.persist();
    await this.refresh();
    if (!granted)
      byId('storage-kept').textContent +=
        ' It was asked and did not promise: browsers do so for sites that are bookmarked, installed or often used.';
  }
}
