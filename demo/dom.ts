/** Small helpers for building the page. */
import { TinkerError } from '../src/index';

/** The element with this id. Throws when the page lacks it: that is a bug of the page. */
export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no element with id "${id}"`);
  return element as T;
}

type Child = Node | string;

/** A new element with properties and children: `h('td', { className: 'on' }, 'text')`. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  props: Partial<HTMLElementTagNameMap[K]> = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = Object.assign(document.createElement(tag), props);
  element.append(...children);
  return element;
}

/** Fills a definition list with name / value pairs. */
export function fillFacts(list: HTMLElement, facts: readonly (readonly [string, string])[]): void {
  list.replaceChildren(...facts.map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, value))));
}

const UNITS = ['bytes', 'KB', 'MB', 'GB'];

/** 12345678 → "12.3 MB" (powers of 1000). */
export function formatBytes(bytes: number): string {
  const power = Math.min(UNITS.length - 1, Math.max(0, Math.floor(Math.log10(Math.max(1, bytes)) / 3)));
  const value = bytes / 1000 ** power;
  return `${value.toFixed(power === 0 || value >= 100 ? 0 : 1)} ${UNITS[power]}`;
}

/** 1234567 → "1,234,567". */
export function formatCount(n: number): string {
  return Math.round(n).toLocaleString('en');
}

/** 1 → "1 step", 2 → "2 steps". */
export const counted = (n: number, what: string): string => `${formatCount(n)} ${what}${n === 1 ? '' : 's'}`;

/** What went wrong, in words. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The same with the kind of error before it, where the library has one. */
export function problemOf(error: unknown): string {
  return error instanceof TinkerError ? `${error.name}: ${error.message}` : messageOf(error);
}
