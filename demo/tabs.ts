/** The page's tabs, as the ARIA pattern has them: arrows, Home and End move, the address remembers. */

/** In the address as `?tab=…`; the first tab's is left out. */
const PARAM = 'tab';

export class Tabs {
  readonly #tabs: readonly HTMLButtonElement[];
  readonly #onShow: (name: string) => void;

  /**
   * @param list a `tablist` of buttons with `data-tab` and `aria-controls`
   * @param onShow told of the tab that is shown, also when it is shown again
   */
  constructor(list: HTMLElement, onShow: (name: string) => void) {
    this.#tabs = [...list.querySelectorAll<HTMLButtonElement>('[role=tab]')];
    this.#onShow = onShow;
    for (const tab of this.#tabs) tab.addEventListener('click', () => this.show(nameOf(tab)));
    list.addEventListener('keydown', (event) => this.#move(event));
    addEventListener('popstate', () => this.#select(this.#named()));
    this.#select(this.#named());
  }

  /** Shows a tab, and adds it to the history. */
  show(name: string): void {
    const tab = this.#tabs.find((tab) => nameOf(tab) === name)!;
    const url = new URL(location.href);
    if (tab === this.#tabs[0]) url.searchParams.delete(PARAM);
    else url.searchParams.set(PARAM, name);
    if (url.href !== location.href) history.pushState(null, '', url);
    this.#select(tab);
  }

  /** The tab that the address names; the first if it names none. */
  #named(): HTMLButtonElement {
    const name = new URLSearchParams(location.search).get(PARAM);
    return this.#tabs.find((tab) => nameOf(tab) === name) ?? this.#tabs[0]!;
  }

  #select(selected: HTMLButtonElement): void {
    for (const tab of this.#tabs) {
      tab.ariaSelected = String(tab === selected);
      tab.tabIndex = tab === selected ? 0 : -1;
      document.getElementById(tab.getAttribute('aria-controls')!)!.hidden = tab !== selected;
    }
    this.#onShow(nameOf(selected));
  }

  #move(event: KeyboardEvent): void {
    const last = this.#tabs.length - 1;
    const at = this.#tabs.findIndex((tab) => tab === document.activeElement);
    const to = {
      ArrowRight: at === last ? 0 : at + 1,
      ArrowLeft: at === 0 ? last : at - 1,
      Home: 0,
      End: last,
    }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    this.#tabs[to]!.focus();
    this.show(nameOf(this.#tabs[to]!));
  }
}

const nameOf = (tab: HTMLElement): string => tab.dataset.tab!;
