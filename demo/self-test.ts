/** The page that checks this browser's GPU against the processor. */
import { runConformance, type ConformanceReport } from '../src/conformance';
import { byId, fillFacts, messageOf, problemOf } from './dom';
import { ResultsTable, showFailures, showVerdict } from './self-test-results';

const form = byId<HTMLFormElement>('test-form');
const cases = byId<HTMLSelectElement>('cases');
const seed = byId<HTMLInputElement>('seed');
const run = byId<HTMLButtonElement>('run');
const stop = byId<HTMLButtonElement>('stop');
const table = new ResultsTable();

/** The cases named in the address: a link to a failure runs it alone. */
const only = new URLSearchParams(location.search).getAll('only');

function fillForm(): void {
  const params = new URLSearchParams(location.search);
  if (/^\d+$/.test(params.get('seed') ?? '')) seed.value = params.get('seed')!;
  const wanted = params.get('cases');
  if ([...cases.options].some(({ value }) => value === wanted)) cases.value = wanted!;
  byId('only-label').hidden = only.length === 0;
  byId('everything').hidden = only.length === 0;
  byId<HTMLInputElement>('only').value = only.join(', ');
}

function showMissing(reason: string): void {
  byId('missing-reason').textContent = reason;
  byId('missing').hidden = false;
  run.disabled = true;
}

function showReport(report: ConformanceReport): void {
  for (const subject of report.subjects) table.show(subject);
  showVerdict(report);
  showFailures(report);
  byId('report').textContent = JSON.stringify(report, null, 2);
  byId('report-details').hidden = false;
  byId('copy').hidden = false;
}

async function test(): Promise<void> {
  const gone = new AbortController();
  stop.onclick = () => gone.abort(new Error('Stopped.'));
  table.clear();
  byId('problem').textContent = '';
  byId('verdict').replaceChildren();
  for (const id of ['failures', 'results', 'copy', 'report-details']) byId(id).hidden = true;
  const bar = byId<HTMLProgressElement>('bar');
  bar.removeAttribute('value');
  byId('bar-label').textContent = 'Starting …';
  byId('progress').hidden = false;
  run.disabled = true;
  stop.disabled = false;
  try {
    const report = await runConformance({
      seed: Number(seed.value),
      cases: Number(cases.value),
      ...(only.length > 0 && { only }),
      signal: gone.signal,
      onProgress({ done, total, subject }) {
        bar.max = total;
        bar.value = done;
        byId('bar-label').textContent = `${done} of ${total}: ${subject.name}`;
        byId('results').hidden = false;
        table.show(subject);
      },
    });
    showReport(report);
  } catch (error) {
    byId('problem').textContent = gone.signal.aborted ? messageOf(error) : problemOf(error);
  } finally {
    run.disabled = false;
    stop.disabled = true;
    byId('progress').hidden = true;
  }
}

byId('everything').addEventListener('click', () => location.assign(location.pathname));

byId('copy').addEventListener('click', () => {
  const button = byId('copy');
  navigator.clipboard.writeText(byId('report').textContent).then(
    () => (button.textContent = 'Copied'),
    // not allowed here: leave it selected, to be copied by hand
    () => {
      byId<HTMLDetailsElement>('report-details').open = true;
      getSelection()?.selectAllChildren(byId('report'));
      button.textContent = 'Selected below: copy it';
    },
  );
  setTimeout(() => (button.textContent = 'Copy the report'), 3000);
});

form.addEventListener('submit', (event) => {
  event.preventDefault();
  const params = new URLSearchParams({ seed: seed.value, cases: cases.value });
  for (const name of only) params.append('only', name);
  history.replaceState(null, '', `?${params}`);
  void test();
});

/** Says at once what would be tested, or that there is nothing. */
async function showAdapter(): Promise<void> {
  if (!('gpu' in navigator)) {
    showMissing('This browser does not offer WebGPU, or not on this page: it needs https or localhost.');
    return;
  }
  const adapter = await navigator.gpu.requestAdapter();
  if (!adapter) {
    showMissing(
      'WebGPU is there but offers no adapter: update the graphics driver, or start Chrome with --enable-unsafe-webgpu.',
    );
    return;
  }
  const { vendor, architecture, description } = adapter.info;
  fillFacts(byId('facts'), [
    ['Adapter', [vendor, architecture, description].filter(Boolean).join(' ') || 'unnamed'],
  ]);
}

fillForm();
await showAdapter();
