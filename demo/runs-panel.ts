/** The list of the second tab: runs that saved something, newest first, and their checkpoints. */
import { ParsedCheckpointTinkerPath, type Checkpoint, type TrainingRun } from '../src/index';
import { checkpointRow, nameOf } from './checkpoint-row';
import { byId, formatBytes, h, problemOf } from './dom';
import { forgetLosses } from './loss-history';
import { BASE_MODEL, type Session } from './session';
import { whenElement } from './when';

export interface RunsPanelEvents {
  /** what to ask before another adapter takes the place of the one in training; undefined = nothing */
  askBeforeResume(): string | undefined;
  /** rejects with what the list then shows */
  onResume(checkpoint: Checkpoint, name: string): Promise<void>;
  onSample(checkpoint: Checkpoint, name: string): void;
  onDeleted(checkpoint: Checkpoint): void;
  /** the list has changed */
  onChange(): Promise<void>;
}

/** Checkpoints in the list before “Show more”. */
const PAGE = 50;
const HEAD = ['Checkpoint', 'Type', 'Size', 'Saved', 'Expires', 'Public', ''];
const PUBLIC_HINT = 'A flag, as the service has it. Nobody else can see what is in this browser.';

export class RunsPanel {
  readonly #session: Session;
  readonly #events: RunsPanelEvents;
  readonly #list = byId('runs-list');
  #limit = PAGE;
  /** of refreshes: the latest one counts */
  #turn = 0;
  /** what is shown, to leave the page alone when nothing changed */
  #shown = '';

  constructor(session: Session, events: RunsPanelEvents) {
    this.#session = session;
    this.#events = events;
    byId('runs-more').addEventListener('click', () => {
      this.#limit += PAGE;
      void this.refresh();
    });
  }

  /** Lists what is there now. What this or another page did since appears. */
  async refresh(): Promise<void> {
    const { rest } = this.#session;
    const turn = ++this.#turn;
    const { checkpoints, cursor } = await rest.listUserCheckpoints({ limit: this.#limit });
    const byRun = new Map<string, Checkpoint[]>();
    for (const checkpoint of checkpoints) {
      const { trainingRunId } = ParsedCheckpointTinkerPath.fromTinkerPath(checkpoint.tinkerPath);
      byRun.set(trainingRunId, [...(byRun.get(trainingRunId) ?? []), checkpoint]);
    }
    const runs = await Promise.all([...byRun.keys()].map((id) => rest.getTrainingRun(id)));
    if (turn !== this.#turn) return;
    byId('runs-empty').hidden = checkpoints.length > 0;
    byId('runs-more').hidden = checkpoints.length >= (cursor?.totalCount ?? 0);
    const minute = Math.floor(Date.now() / 60_000); // “5 minutes ago” is another text then
    const shown = JSON.stringify([runs, checkpoints, minute]);
    if (shown === this.#shown) return;
    this.#shown = shown;
    const focused = document.activeElement;
    const path = focused?.closest('tr')?.dataset.path;
    this.#list.replaceChildren(...runs.map((run) => this.#card(run, byRun.get(run.trainingRunId)!)));
    // the control that was used is another element now
    const row = [...this.#list.querySelectorAll('tr')].find((row) => row.dataset.path === path);
    const controls = row?.querySelectorAll<HTMLElement>('[aria-label]') ?? [];
    [...controls].find(({ ariaLabel }) => ariaLabel === focused?.ariaLabel)?.focus();
  }

  #card(run: TrainingRun, checkpoints: readonly Checkpoint[]): HTMLElement {
    const bytes = checkpoints.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    const problem = h('p', { className: 'problem', role: 'alert' });
    const card = h('section', { className: 'card run', ariaLabel: `Run ${run.trainingRunId}` });
    /** Does what a button asks for; the card says what goes wrong. */
    const act = async (action: () => Promise<void>) => {
      problem.textContent = '';
      card.ariaBusy = 'true';
      try {
        await action();
      } catch (error) {
        problem.textContent = problemOf(error);
      } finally {
        card.ariaBusy = 'false';
      }
    };
    const heading = h('h3', {}, run.baseModel, h('span', { className: 'tag' }, `rank ${run.loraRank}`));
    const origin = run.userMetadata.resumed_from;
    const facts = h(
      'p',
      { className: 'hint' },
      'last used ',
      whenElement(run.lastRequestTime),
      ` · ${formatBytes(bytes)}`,
      ...(origin ? [` · resumed from ${origin.slice(origin.lastIndexOf('/') + 1)}`] : []),
    );
    const rows = inPairs(checkpoints).map((checkpoint) => this.#row(run, checkpoint, act));
    card.append(
      h('div', { className: 'run-head' }, heading, facts, h('code', {}, run.trainingRunId)),
      h('div', { className: 'scroll' }, h('table', {}, tableHead(), h('tbody', {}, ...rows))),
      problem,
    );
    return card;
  }

  #row(
    run: TrainingRun,
    checkpoint: Checkpoint,
    act: (action: () => Promise<void>) => Promise<void>,
  ): HTMLTableRowElement {
    const { rest } = this.#session;
    const { tinkerPath } = checkpoint;
    const name = nameOf(checkpoint);
    const change = async (work: Promise<void>) => {
      try {
        await work;
      } finally {
        // also after a refusal: another page may have been there first
        this.#shown = '';
        await this.#events.onChange();
      }
    };
    const actions = {
      resume:
        run.baseModel === BASE_MODEL
          ? () => this.#events.onResume(checkpoint, name)
          : `This page trains ${BASE_MODEL} only.`,
      askBeforeResume: () => this.#events.askBeforeResume(),
      sample: () => this.#events.onSample(checkpoint, name),
      download: async () => {
        const { url } = await rest.getCheckpointArchiveUrlFromTinkerPath(tinkerPath);
        h('a', {
          href: url,
          download: `${name}${checkpoint.checkpointType === 'sampler' ? '-sampler' : ''}.tar`,
        }).click();
      },
      exportOnnx: async (onProgress: (percent: number) => void) => {
        const sampler = await this.#session.service.createSamplingClient({ modelPath: tinkerPath });
        try {
          const { archive } = await sampler.exportOnnx({
            onProgress: ({ loaded, total }) => onProgress(Math.round((100 * loaded) / total)),
          });
          const href = URL.createObjectURL(archive);
          h('a', { href, download: `${name}-onnx.tar` }).click();
          // the browser has begun to copy it by then
          setTimeout(() => URL.revokeObjectURL(href), 60_000);
        } finally {
          await sampler.dispose();
        }
      },
      remove: async () => {
        await change(rest.deleteCheckpointFromTinkerPath(tinkerPath));
        forgetLosses(tinkerPath);
        this.#events.onDeleted(checkpoint);
        byId('runs-title').focus();
      },
      setPublic: (isPublic: boolean) =>
        change(
          isPublic
            ? rest.publishCheckpointFromTinkerPath(tinkerPath)
            : rest.unpublishCheckpointFromTinkerPath(tinkerPath),
        ),
      setTtl: (seconds: number | null) => change(rest.setCheckpointTtlFromTinkerPath(tinkerPath, seconds)),
    };
    return checkpointRow(checkpoint, actions, act);
  }
}

/** Keeps what was saved under one name together, the training state first; else newest first. */
function inPairs(checkpoints: readonly Checkpoint[]): Checkpoint[] {
  const names = [...new Set(checkpoints.map(nameOf))];
  return names.flatMap((name) => {
    const same = checkpoints.filter((checkpoint) => nameOf(checkpoint) === name);
    return same.sort((a, b) => b.checkpointType.localeCompare(a.checkpointType));
  });
}

function tableHead(): HTMLTableSectionElement {
  const cells = HEAD.map((text) =>
    h('th', { scope: 'col', title: text === 'Public' ? PUBLIC_HINT : '' }, text),
  );
  return h('thead', {}, h('tr', {}, ...cells));
}
