/** How a report of the self-test looks: the table, the verdict and the failures. */
import type { ConformanceReport, FailureReport, ReportNumber, SubjectReport } from '../src/conformance';
import { byId, counted, fillFacts, h } from './dom';

/** 1.2e-7 as 1.2 × 10⁻⁷. */
function figure(x: ReportNumber): HTMLElement {
  if (typeof x !== 'number') return h('span', {}, x === 'Infinity' ? '∞' : x);
  if (x === 0 || (x >= 0.01 && x < 1000)) return h('span', {}, String(Number(x.toPrecision(2))));
  const [mantissa, power] = x.toExponential(1).split('e') as [string, string];
  return h('span', {}, `${mantissa} × 10`, h('sup', {}, power.replace('-', '−').replace('+', '')));
}

/** As many digits as an f32 has. */
const digits = (x: ReportNumber | undefined): string =>
  typeof x === 'number' ? String(Number(x.toPrecision(9))) : String(x);

const GROUPS = { op: 'Ops', program: 'Programs' } as const;

/** The table, one row for each op and program, filled while they run. */
export class ResultsTable {
  readonly #body = byId('results-body');
  readonly #rows = new Map<string, HTMLElement>();
  readonly #groups = new Set<string>();

  clear(): void {
    this.#body.replaceChildren();
    this.#rows.clear();
    this.#groups.clear();
  }

  show(subject: SubjectReport): void {
    const row = this.#rowOf(subject);
    const { name, cases, worst, failures } = subject;
    row.className = failures.length > 0 ? 'bad' : '';
    const exact = worst?.bound === 0;
    const share = worst === null ? null : exact ? (worst.error === 0 ? 0 : Infinity) : Number(worst.share);
    const told =
      failures.length > 0
        ? `${failures.length} failed`
        : exact
          ? 'equal'
          : share === null
            ? '–'
            : `${Math.round(100 * share)} %`;
    const bar = h('i');
    bar.style.setProperty('--part', `${Math.min(100, 100 * (failures.length > 0 ? 1 : (share ?? 0)))}%`);
    row.replaceChildren(
      h('th', { scope: 'row' }, name),
      h('td', { className: 'number' }, String(cases)),
      h('td', { className: 'number' }, worst ? figure(worst.error) : '–'),
      h('td', { className: 'number' }, worst ? (exact ? 'equal' : figure(worst.bound)) : '–'),
      h('td', {}, h('div', { className: 'share' }, h('span', {}, bar), h('span', {}, told))),
    );
  }

  #rowOf({ kind, name }: SubjectReport): HTMLElement {
    let row = this.#rows.get(name);
    if (!row) {
      if (!this.#groups.has(kind)) {
        this.#groups.add(kind);
        const title = h('th', { colSpan: 5, scope: 'rowgroup' }, GROUPS[kind]);
        this.#body.append(h('tr', { className: 'group' }, title));
      }
      row = h('tr');
      this.#rows.set(name, row);
      this.#body.append(row);
    }
    return row;
  }
}

/** The verdict, and who is compared with whom. */
export function showVerdict(report: ConformanceReport): void {
  const { adapter, oracle, verdict, passed, cases, comparisons, seconds, variants, seed } = report;
  const box = byId('verdict');
  box.className = passed ? 'good' : 'bad';
  const others = variants.filter(({ own }) => !own).map(({ name }) => name);
  const also = others.length > 0 ? `, also with the kernels of other adapters (${others.join(', ')})` : '';
  box.replaceChildren(
    h('p', {}, verdict),
    h(
      'p',
      {},
      `${counted(cases, 'case')}, ${counted(comparisons, 'comparison')}, seed ${seed}, in ${seconds.toFixed(0)} s${also}.`,
    ),
  );
  const name = [adapter.vendor, adapter.architecture, adapter.description].filter(Boolean).join(' ');
  fillFacts(byId('facts'), [
    ['Adapter', `${name || 'unnamed'}${adapter.software ? ' (software)' : ''}`],
    ['Compared with', oracle],
  ]);
}

/** One article for each failure, those of ops first: a program fails because an op does. */
export function showFailures({ subjects }: ConformanceReport): void {
  const failed = subjects.flatMap(({ failures }) => failures);
  byId('failures').hidden = failed.length === 0;
  byId('failure-list').replaceChildren(...failed.slice(0, SHOWN).map(article));
  if (failed.length > SHOWN) {
    byId('failure-list').append(
      h('p', { className: 'hint' }, `and ${counted(failed.length - SHOWN, 'more failure')}: see the report.`),
    );
  }
}

/** A kernel that is wrong fails many cases, which say the same. */
const SHOWN = 20;

function article(failure: FailureReport): HTMLElement {
  const { message, result, at, ours, oracle, beyond, of, error, bound, kernels, variant, seed, agrees } =
    failure;
  const what = message
    ? [message]
    : [
        `${result}[${at}] is ${digits(ours)}, and should be ${digits(oracle)}: off by `,
        figure(error!),
        ' of its size where ',
        figure(bound!),
        ` is allowed; ${beyond} of ${counted(of!, 'element')}.`,
        agrees ? ` Other kernels (${agrees.join(', ')}) give the same: ONNX Runtime may be wrong here.` : '',
      ];
  const again = new URLSearchParams({ seed: String(seed), only: failure.case });
  return h(
    'article',
    { className: 'failure' },
    h('h3', {}, failure.case, h('span', { className: 'tag' }, variant)),
    h('p', {}, ...(kernels.length > 0 ? ['Kernel ', h('code', {}, kernels.join(', ')), ': '] : []), ...what),
    h('pre', {}, JSON.stringify(failure.about)),
    h('p', {}, h('a', { href: `?${again}` }, 'Run this case alone')),
  );
}
