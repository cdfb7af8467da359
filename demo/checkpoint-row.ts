/** One checkpoint in the list: what it is, and what can be done with it. */
import type { Checkpoint } from '../src/index';
import { formatBytes, h } from './dom';
import { ask } from './inline-question';
import { formatWhen, whenElement } from './when';

export interface CheckpointActions {
  /** the reason why not where this page cannot train on it */
  readonly resume: (() => Promise<void>) | string;
  /** a question to ask before; undefined = none */
  readonly askBeforeResume: () => string | undefined;
  readonly sample: () => void;
  readonly download: () => Promise<void>;
  /** @param onProgress percent of the weights written */
  readonly exportOnnx: (onProgress: (percent: number) => void) => Promise<void>;
  readonly remove: () => Promise<void>;
  readonly setPublic: (isPublic: boolean) => Promise<void>;
  /** @param seconds from now; null = for good */
  readonly setTtl: (seconds: number | null) => Promise<void>;
}

const HOUR = 3_600;
const LIFETIMES = [
  ['1 hour', HOUR],
  ['1 day', 24 * HOUR],
  ['1 week', 7 * 24 * HOUR],
  ['30 days', 30 * 24 * HOUR],
] as const;

/** `weights/step-20` → `step-20`. */
export const nameOf = ({ checkpointId }: Checkpoint): string =>
  checkpointId.slice(checkpointId.indexOf('/') + 1);

/**
 * A row of the table of a run.
 * @param run does an action: shows that it is under way, and what goes wrong
 */
export function checkpointRow(
  checkpoint: Checkpoint,
  actions: CheckpointActions,
  run: (action: () => Promise<void>) => Promise<void>,
): HTMLTableRowElement {
  const name = nameOf(checkpoint);
  const training = checkpoint.checkpointType === 'training';
  const cell = (label: string, className: string, ...children: (Node | string)[]) => {
    const td = h('td', { className }, ...children);
    td.dataset.label = label; // shown on narrow screens, where the head of the table is hidden
    return td;
  };
  const button = (text: string, onClick: () => void, className = '') => {
    const button = h('button', { type: 'button', className, ariaLabel: `${text} ${name}` }, text);
    button.addEventListener('click', onClick);
    return button;
  };

  const { resume, askBeforeResume, remove } = actions;
  const main = training ? button('Resume', () => void askAndResume()) : button('Sample', actions.sample);
  if (training && typeof resume === 'string') {
    main.disabled = true;
    main.title = resume;
  }
  const askAndResume = async () => {
    const question = askBeforeResume();
    if (question !== undefined && !(await ask(buttons, question, 'Resume', 'Cancel'))) return;
    if (typeof resume !== 'function') return;
    main.textContent = 'Resuming …';
    await run(resume);
    main.textContent = 'Resume';
  };
  const askAndRemove = async () => {
    if (await ask(buttons, `Delete ${name} for good?`, 'Delete', 'Keep')) await run(remove);
  };
  const onnx = button('ONNX', () => void writeOnnx());
  onnx.title = 'Download the model with this adapter merged in, as transformers.js loads it';
  const writeOnnx = async () => {
    onnx.disabled = true;
    await run(() => actions.exportOnnx((percent) => (onnx.textContent = `${percent} %`)));
    onnx.disabled = false;
    onnx.textContent = 'ONNX';
  };
  const buttons = h(
    'div',
    { className: 'buttons' },
    main,
    button('Download', () => void run(actions.download)),
    ...(training ? [] : [onnx]),
    button('Delete', () => void askAndRemove(), 'quiet'),
  );

  const isPublic = h('input', {
    type: 'checkbox',
    checked: checkpoint.public,
    ariaLabel: `${name} is public`,
  });
  isPublic.addEventListener('change', () => void run(() => actions.setPublic(isPublic.checked)));

  const row = h(
    'tr',
    {},
    h('th', { scope: 'row', title: checkpoint.tinkerPath }, name),
    cell('Type', '', training ? 'training state' : 'sampler weights'),
    cell('Size', 'number', formatBytes(checkpoint.sizeBytes)),
    cell('Saved', '', whenElement(checkpoint.time)),
    cell(
      'Expires',
      '',
      lifetime(checkpoint, name, (seconds) => void run(() => actions.setTtl(seconds))),
    ),
    cell('Public', '', isPublic),
    cell('', 'actions', buttons),
  );
  row.dataset.path = checkpoint.tinkerPath;
  return row;
}

/** A menu that shows when a checkpoint expires, and changes it. */
function lifetime(
  { expiresAt }: Checkpoint,
  name: string,
  set: (seconds: number | null) => void,
): HTMLSelectElement {
  const option = (value: string, text: string) => h('option', { value }, text);
  const menu = h('select', { ariaLabel: `${name} expires` });
  if (expiresAt)
    menu.append(h('option', { value: 'now', title: expiresAt.toLocaleString('en') }, formatWhen(expiresAt)));
  menu.append(option('never', 'never'));
  menu.append(...LIFETIMES.map(([text, seconds]) => option(String(seconds), `in ${text}`)));
  menu.addEventListener('change', () => {
    if (menu.value !== 'now') set(menu.value === 'never' ? null : Number(menu.value));
  });
  return menu;
}
