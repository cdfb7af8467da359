/** The training examples as token / target / weight rows; targets change colour as they are learned. */
import { byId, h } from './dom';
import type { Example, TokenRows } from './pig-latin';
import type { Tokenizer } from '../src/index';

/** Text that shows one token: white space visible, what is no text on its own as a number. */
function show(text: string, id: number): string {
  if (text === ' ') return '␣';
  if (text === '\n') return '↵';
  if (text === '\t') return '⇥';
  // a byte in the middle of a character, or a token without text
  return text === '' || text.includes('\ufffd') ? `#${id}` : text.replaceAll(' ', '␣').replaceAll('\n', '↵');
}

export class TokensTable {
  /** by datum, by position: the cell of the target */
  readonly #targets: HTMLTableCellElement[][] = [];
  readonly #tokenizer: Tokenizer;
  readonly #rows: readonly TokenRows[];

  constructor(examples: readonly Example[], rows: readonly TokenRows[], tokenizer: Tokenizer) {
    this.#tokenizer = tokenizer;
    this.#rows = rows;
    byId('datums').replaceChildren(...rows.map((row, i) => this.#datum(examples[i]!, row)));
  }

  /** Colours every loss-carrying target by its probability. `logprobs`: per datum, per position. */
  update(logprobs: readonly (readonly number[])[]): void {
    this.#rows.forEach(({ weights, targets }, i) => {
      weights.forEach((weight, t) => {
        if (weight === 0) return;
        const p = Math.exp(logprobs[i]![t]!);
        const cell = this.#targets[i]![t]!;
        cell.style.setProperty('--p', p.toFixed(3));
        cell.title = `token ${targets[t]}: probability ${(100 * p).toFixed(1)} %`;
      });
    });
  }

  /** Back to the colours of an untrained model. */
  clear(): void {
    for (const cell of this.#targets.flat()) cell.style.removeProperty('--p');
  }

  #datum(example: Example, { inputs, targets, weights }: TokenRows): HTMLElement {
    const cell = (id: number, className: string) => {
      const text = this.#tokenizer.decode([id]);
      const space = text.trim() === '' ? ' space' : '';
      return h('td', { className: className + space, title: `token ${id}` }, show(text, id));
    };
    const head = (text: string) => h('th', { scope: 'row' }, text);
    const carries = weights.map((w) => (w === 0 ? '' : ' on'));
    const targetCells = targets.map((id, t) => cell(id, `target${carries[t]}`));
    this.#targets.push(targetCells);
    const weightCells = weights.map((w, t) => h('td', { className: carries[t]!.trim() }, String(w)));
    return h(
      'div',
      {
        className: 'datum scroll',
        tabIndex: 0,
        role: 'region',
        ariaLabel: `Training example ${example.english}`,
      },
      h(
        'table',
        {},
        h('caption', { className: 'visually-hidden' }, `${example.english} → ${example.pigLatin}`),
        h(
          'tbody',
          {},
          h('tr', {}, head('token'), ...inputs.map((id) => cell(id, ''))),
          h('tr', {}, head('target'), ...targetCells),
          h('tr', {}, head('weight'), ...weightCells),
        ),
      ),
    );
  }
}
