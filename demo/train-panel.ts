/** Train, Stop, Start over and Save; settings, readouts and the loss curve. */
import type { Datum } from '../src/index';
import { LossChart } from './chart';
import { byId, counted, formatCount, h } from './dom';
import { lossesOf, rememberLosses } from './loss-history';
import { EXAMPLES, datumOf, rowsOf, type TokenRows } from './pig-latin';
import { SaveForm } from './save-form';
import type { Session } from './session';
import { TokensTable } from './tokens-table';
import { MAX_STEPS, RANKS, isLearningRate, isStepCount, putInUrl, type Settings } from './url-state';

export interface TrainPanelEvents {
  /** before the first step */
  onStart(): Promise<void>;
  /** after every optimizer step */
  onStep(): void;
  /** training has ended or was stopped, after at least one step */
  onPause(): Promise<void>;
  /** the adapter is fresh again */
  onReset(): Promise<void>;
  /** the way to what is saved */
  onShowSaved(): void;
  onError(error: unknown): void;
}

/** A reading of the speed looks back over this many steps. */
const SPEED_WINDOW = 8;

export class TrainPanel {
  readonly #session: Session;
  readonly #events: TrainPanelEvents;
  readonly #chart = new LossChart(byId('chart'));
  readonly #rows: readonly TokenRows[];
  readonly #data: readonly Datum[];
  readonly #tokens: TokensTable;
  readonly #tokensPerStep: number;
  #settings: Settings;
  #step = 0;
  /** the step that was last saved, or resumed from */
  #savedStep = 0;
  #stopAsked = false;

  readonly #train = byId<HTMLButtonElement>('train-button');
  readonly #stop = byId<HTMLButtonElement>('stop-button');
  readonly #reset = byId<HTMLButtonElement>('reset-button');
  readonly #rank = byId<HTMLSelectElement>('rank');
  readonly #lr = byId<HTMLInputElement>('lr');
  readonly #steps = byId<HTMLInputElement>('steps');
  readonly #saving: SaveForm;

  constructor(session: Session, settings: Settings, events: TrainPanelEvents) {
    this.#session = session;
    this.#settings = settings;
    this.#events = events;
    this.#rows = EXAMPLES.map((example) => rowsOf(example, session.tokenizer));
    this.#data = this.#rows.map(datumOf);
    this.#tokens = new TokensTable(EXAMPLES, this.#rows, session.tokenizer);
    this.#tokensPerStep = this.#rows.reduce((sum, { inputs }) => sum + inputs.length, 0);

    this.#rank.replaceChildren(...RANKS.map((r) => h('option', { value: String(r) }, String(r))));
    this.#rank.value = String(settings.rank);
    this.#lr.value = String(settings.learningRate);
    this.#steps.value = String(settings.steps);
    this.#steps.max = String(MAX_STEPS);
    for (const input of [this.#rank, this.#lr, this.#steps])
      input.addEventListener('change', () => this.#read());
    byId('train-form').addEventListener('submit', (event) => {
      event.preventDefault();
      if (this.#read()) void this.#guard(() => this.#run());
    });
    this.#stop.addEventListener('click', () => {
      this.#stopAsked = true;
      this.#stop.disabled = true;
    });
    this.#reset.addEventListener('click', () => void this.#guard(() => this.#startOver()));
    this.#saving = new SaveForm({
      onSave: (name) => this.#save(name),
      onShow: () => events.onShowSaved(),
    });
    this.#say('Press Train: the loss starts to fall with the first steps.');
  }

  /** Takes the settings from the form; false, with a message, when one is wrong. */
  #read(): boolean {
    const settings: Settings = {
      rank: Number(this.#rank.value),
      learningRate: Number(this.#lr.value),
      steps: Number(this.#steps.value),
    };
    const problem = !isLearningRate(settings.learningRate)
      ? 'The learning rate must be a number above 0 and at most 1, such as 0.005 or 5e-3.'
      : !isStepCount(settings.steps)
        ? `Steps must be a whole number from 1 to ${MAX_STEPS}.`
        : '';
    byId('train-problem').textContent = problem;
    if (problem) return false;
    this.#settings = settings;
    putInUrl(settings);
    return true;
  }

  /** Steps that would be lost if another adapter took this one's place. */
  get unsavedSteps(): number {
    return this.#step - this.#savedStep;
  }

  /** Whether something is under way that another adapter must not come into. */
  get busy(): boolean {
    return this.#train.disabled;
  }

  /**
   * Puts a saved adapter in place of the present one, and goes on from its step where that is known.
   * @param onResumed it is there; samples of it are still to come
   */
  async resume(tinkerPath: string, name: string, onResumed: () => void): Promise<void> {
    this.#busy('loading');
    try {
      const { optimizer } = await this.#session.resume(tinkerPath);
      const losses = lossesOf(tinkerPath) ?? [];
      this.#begin(losses);
      this.#rank.value = String(this.#session.rank);
      this.#read();
      this.#tokens.update(await this.#session.logprobs(this.#data));
      onResumed();
      this.#say(`Resumed “${name}”. Sampling …`);
      await this.#events.onPause();
      const moments = optimizer ? '' : ' It came without an optimizer’s state, which starts anew.';
      this.#say(`Resumed “${name}”: training goes on from here.${moments}`);
    } finally {
      this.#busy(undefined);
    }
  }

  async #save(name: string): Promise<void> {
    this.#busy('saving');
    try {
      const tinkerPath = await this.#session.save(name);
      rememberLosses(tinkerPath, this.#chart.losses);
      this.#savedStep = this.#step;
    } finally {
      this.#busy(undefined);
    }
  }

  async #run(): Promise<void> {
    const { rank, steps } = this.#settings;
    if (rank !== this.#session.rank) await this.#startOver();
    this.#stopAsked = false;
    this.#saving.clear();
    this.#busy('training');
    this.#say('Compiling a training step …');
    await this.#events.onStart();
    const start = this.#step;
    this.#chart.goal = start + steps;
    const times = [performance.now()];
    while (this.#step < start + steps && !this.#stopAsked) {
      const weights = this.#rows.map((row) => row.weights);
      const { lossPerToken, logprobs } = await this.#session.step(
        this.#data,
        weights,
        this.#settings.learningRate,
      );
      times.push(performance.now());
      if (this.#step++ === start) this.#say('Training …');
      this.#show(lossPerToken, times.slice(-SPEED_WINDOW - 1), start + steps);
      this.#tokens.update(logprobs);
      this.#events.onStep();
    }
    const seconds = ((times.at(-1)! - times[0]!) / 1000).toFixed(1);
    const done = this.#step - start;
    this.#busy('sampling');
    const outcome = `${this.#stopAsked ? 'Stopped' : 'Done'} after ${counted(done, 'step')} in ${seconds} s.`;
    this.#say(`${outcome} Sampling …`);
    if (done > 0) await this.#events.onPause();
    this.#say(outcome);
  }

  async #startOver(): Promise<void> {
    this.#busy('starting');
    await this.#session.startOver(this.#settings.rank);
    this.#begin([]);
    await this.#events.onReset();
    this.#say('A fresh adapter.');
  }

  /** Readouts and curve of an adapter that has these losses behind it. */
  #begin(losses: readonly number[]): void {
    this.#step = this.#savedStep = losses.length;
    this.#chart.goal = losses.length;
    this.#chart.show(losses);
    this.#tokens.clear();
    for (const id of ['speed', 'step-time']) byId(id).textContent = '–';
    byId('loss').textContent = losses.length > 0 ? formatLoss(losses.at(-1)!) : '–';
    byId('step').textContent = String(losses.length);
    this.#saving.clear();
  }

  #show(loss: number, times: readonly number[], goal: number): void {
    const perStep = (times.at(-1)! - times[0]!) / (times.length - 1); // ms
    byId('step').textContent = `${this.#step} / ${goal}`;
    byId('loss').textContent = formatLoss(loss);
    byId('speed').textContent = formatCount((1000 * this.#tokensPerStep) / perStep);
    byId('step-time').textContent =
      perStep < 1000 ? `${perStep.toFixed(0)} ms` : `${(perStep / 1000).toFixed(2)} s`;
    this.#chart.add(this.#step, loss);
  }

  #say(text: string): void {
    byId('train-status').textContent = text;
  }

  #busy(what: 'training' | 'sampling' | 'starting' | 'saving' | 'loading' | undefined): void {
    this.#stop.disabled = what !== 'training';
    for (const control of [this.#train, this.#rank, this.#lr, this.#steps])
      control.disabled = what !== undefined;
    this.#reset.disabled = what !== undefined || this.#step === 0;
    this.#train.textContent = this.#step === 0 ? 'Train' : 'Train more';
    this.#saving.step = this.#step;
    this.#saving.disabled = what !== undefined;
  }

  /** Runs `body` and gives the controls back, whatever happens. */
  async #guard(body: () => Promise<void>): Promise<void> {
    try {
      await body();
    } catch (error) {
      this.#say('');
      this.#events.onError(error);
    } finally {
      this.#busy(undefined);
    }
  }
}

const formatLoss = (loss: number): string => loss.toFixed(loss < 0.1 ? 4 : 3);
