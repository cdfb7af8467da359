/** Saves what was learned so far, from the Train tab. */
import { byId, problemOf } from './dom';

export interface SaveFormEvents {
  /** saves under this name; rejects with what the page then shows */
  onSave(name: string): Promise<void>;
  /** the way to the list of what is saved */
  onShow(): void;
}

export class SaveForm {
  readonly #form = byId<HTMLFormElement>('save-form');
  readonly #name = byId<HTMLInputElement>('save-name');
  readonly #button = byId<HTMLButtonElement>('save-button');
  /** the name is still the suggested one */
  #suggested = true;

  constructor(events: SaveFormEvents) {
    this.#name.addEventListener('input', () => (this.#suggested = false));
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault();
      void this.#save(events);
    });
    byId('save-show').addEventListener('click', () => events.onShow());
  }

  /** After this many steps there is something to save, or with 0 nothing. */
  set step(step: number) {
    this.#form.hidden = step === 0;
    if (this.#suggested) this.#name.value = `step-${step}`;
  }

  set disabled(disabled: boolean) {
    this.#button.disabled = disabled;
    this.#name.disabled = disabled;
  }

  /** Forgets the last outcome: it is about another state of the adapter. */
  clear(): void {
    this.#show('', '');
  }

  async #save(events: SaveFormEvents): Promise<void> {
    const name = this.#name.value.trim();
    this.#show('', '');
    this.#button.textContent = 'Saving …';
    try {
      await events.onSave(name);
      this.#show(`Saved “${name}”.`, '');
      this.#suggested = true;
    } catch (error) {
      this.#show('', problemOf(error));
      this.#name.select();
    } finally {
      this.#button.textContent = 'Save';
    }
  }

  #show(done: string, problem: string): void {
    byId('saved').hidden = done === '';
    byId('saved-text').textContent = done;
    byId('save-problem').textContent = problem;
  }
}
