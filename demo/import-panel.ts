/** Takes adapters from files: a `.tar` from here or from the service, or the two files that peft writes. */
import { byId, problemOf } from './dom';
import { BASE_MODEL, type Session } from './session';

export class ImportPanel {
  readonly #session: Session;
  readonly #onImported: () => Promise<void>;
  readonly #files = byId<HTMLInputElement>('import-files');

  /** @param onImported the list has a checkpoint more */
  constructor(session: Session, onImported: () => Promise<void>) {
    this.#session = session;
    this.#onImported = onImported;
    this.#files.addEventListener('change', () => void this.#take([...this.#files.files!]));
    // anywhere on the page: beside the field the browser would open the file in place of the page
    const page = byId('checkpoints-page');
    const zone = byId('import-drop');
    page.addEventListener('dragover', (event) => {
      event.preventDefault();
      zone.classList.add('over');
    });
    for (const end of ['dragleave', 'drop']) page.addEventListener(end, () => zone.classList.remove('over'));
    page.addEventListener('drop', (event) => {
      event.preventDefault();
      void this.#take([...event.dataTransfer!.files]);
    });
  }

  async #take(files: readonly File[]): Promise<void> {
    if (files.length === 0) return;
    const status = byId('import-status');
    const problem = byId('import-problem');
    problem.textContent = '';
    status.textContent = 'Reading …';
    try {
      const archive = files.find((file) => file.name.endsWith('.tar'));
      const source = archive ?? Object.fromEntries(files.map((file) => [file.name, file]));
      const name = archive ? archive.name.replace(/\.tar$/, '') : 'imported';
      await this.#session.rest.importCheckpoint(source, { name, baseModel: BASE_MODEL });
      await this.#onImported();
      status.textContent = `Imported “${name}”.`;
    } catch (error) {
      status.textContent = '';
      problem.textContent = problemOf(error);
    } finally {
      // the same file again is a change again
      this.#files.value = '';
    }
  }
}
