/** Asks in the place where the answer matters, instead of in a window over the page. */
import { h } from './dom';

/**
 * Puts a question and two buttons in place of what an element shows, until one is pressed.
 * Escape says no. The focus starts on the button that changes nothing.
 */
export function ask(host: HTMLElement, question: string, yes: string, no: string): Promise<boolean> {
  const shown = [...host.childNodes];
  const focused = document.activeElement;
  const accept = h('button', { type: 'button', className: 'danger' }, yes);
  const refuse = h('button', { type: 'button' }, no);
  const box = h(
    'div',
    { className: 'question', role: 'group', ariaLabel: question },
    h('span', {}, question),
    accept,
    refuse,
  );
  host.replaceChildren(box);
  refuse.focus();
  return new Promise((resolve) => {
    const answer = (answer: boolean) => {
      host.replaceChildren(...shown);
      if (focused instanceof HTMLElement) focused.focus();
      resolve(answer);
    };
    accept.addEventListener('click', () => answer(true));
    refuse.addEventListener('click', () => answer(false));
    box.addEventListener('keydown', ({ key }) => {
      if (key === 'Escape') answer(false);
    });
  });
}
