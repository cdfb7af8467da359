/** Greedy samples before and after training, side by side, and a box for one's own words. */
import type { SamplingClient } from '../src/index';
import { byId, h, messageOf } from './dom';
import { EXAMPLES, HELD_OUT, type Example } from './pig-latin';
import type { Session } from './session';

const PHRASES: readonly Example[] = [...EXAMPLES, HELD_OUT];

export type Column = 'before' | 'after';

export class SamplesPanel {
  readonly #session: Session;
  readonly #cells: Record<Column, HTMLTableCellElement[]> = { before: [], after: [] };
  /** the adapter as last sampled; the base model before any training */
  #sampler: SamplingClient;

  constructor(session: Session) {
    this.#session = session;
    this.#sampler = session.baseSampler;
    byId('samples-body').replaceChildren(...PHRASES.map((phrase) => this.#row(phrase)));
    byId('try-form').addEventListener('submit', (event) => {
      event.preventDefault();
      void this.#try();
    });
  }

  /** Samples the base model into the Before column. */
  before(): Promise<void> {
    return this.#fill('before', this.#session.baseSampler);
  }

  /** Samples the adapter as it is now into the After column; the prompt box uses it from here on. */
  async after(): Promise<void> {
    const sampler = await this.#session.trainedSampler();
    await this.#use(sampler);
    await this.#fill('after', sampler);
  }

  /** Empties the After column: the adapter is fresh again. */
  async clear(): Promise<void> {
    await this.#use(this.#session.baseSampler);
    for (const cell of this.#cells.after) this.#write(cell, '', false);
    byId('after-score').textContent = '';
  }

  async #use(sampler: SamplingClient): Promise<void> {
    const old = this.#sampler;
    this.#sampler = sampler;
    if (old !== this.#session.baseSampler) await old.dispose();
  }

  async #fill(column: Column, sampler: SamplingClient): Promise<void> {
    const score = byId(`${column}-score`);
    score.textContent = '…';
    // all are queued at once; each row appears when its answer is there
    const exact = await Promise.all(
      PHRASES.map(async ({ english, pigLatin }, i) => {
        const answer = await this.#session.translate(sampler, english);
        this.#write(this.#cells[column][i]!, answer || '(nothing)', answer === pigLatin);
        return answer === pigLatin;
      }),
    );
    score.textContent = `${exact.filter(Boolean).length}/${PHRASES.length}`;
  }

  #write(cell: HTMLTableCellElement, text: string, exact: boolean): void {
    cell.classList.toggle('exact', exact);
    const answer = h('span', { title: text }, text);
    if (exact) {
      answer.append(h('span', { ariaHidden: 'true' }, ' ✓'));
      answer.append(h('span', { className: 'visually-hidden' }, ' (exact)'));
    }
    cell.replaceChildren(answer);
  }

  #row({ english, pigLatin }: Example): HTMLElement {
    const title = h('th', { scope: 'row' }, english);
    if (english === HELD_OUT.english) title.append(' ', h('span', { className: 'tag' }, 'held out'));
    // the labels show on narrow screens, where the head of the table is hidden
    const cell = (label: string, className = '', text = '') => {
      const td = h('td', { className }, h('span', {}, text));
      td.dataset.label = label;
      return td;
    };
    const before = cell('Before');
    const after = cell('After');
    this.#cells.before.push(before);
    this.#cells.after.push(after);
    return h('tr', {}, title, cell('Pig Latin', 'expected', pigLatin), before, after);
  }

  async #try(): Promise<void> {
    const button = byId<HTMLButtonElement>('try-button');
    const output = byId<HTMLOutputElement>('try-output');
    const english = byId<HTMLInputElement>('try-input').value.trim().toLowerCase();
    button.disabled = true;
    output.textContent = '…';
    try {
      output.textContent = (await this.#session.translate(this.#sampler, english)) || '(nothing)';
    } catch (error) {
      output.textContent = messageOf(error);
    } finally {
      button.disabled = false;
    }
  }
}
