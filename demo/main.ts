/** Starts the engine, shows how far it is, then hands the page to its panels. */
import { TinkerError, WebGPUUnavailableError, type ProgressEvent } from '../src/index';
import { byId, formatBytes } from './dom';
import { EnginePanel, showModelCard } from './engine-panel';
import { SamplesPanel } from './samples-panel';
import { Session } from './session';
import { TrainPanel } from './train-panel';
import { settingsFrom } from './url-state';

const PHASES: Record<ProgressEvent['phase'], string> = {
  download: 'Loading the model',
  upload: 'Moving the model to the GPU',
  compile: 'Compiling the kernels (the first time takes longest)',
};

function showProgress({ phase, what, loaded, total }: ProgressEvent): void {
  const amount =
    phase === 'download' ? `${formatBytes(loaded)} of ${formatBytes(total)}` : `${loaded} of ${total}`;
  const bar = byId<HTMLProgressElement>('loading-bar');
  if (total > 0) {
    bar.max = total;
    bar.value = loaded;
  } else {
    bar.removeAttribute('value');
  }
  byId('loading-label').textContent = `${PHASES[phase]}: ${what}${total > 0 ? `, ${amount}` : ''} …`;
}

function showError(error: unknown): void {
  console.error(error);
  byId('loading').hidden = true;
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof WebGPUUnavailableError) {
    byId('no-webgpu-reason').textContent = message;
    byId('no-webgpu').hidden = false;
    return;
  }
  byId('error-title').textContent =
    error instanceof TinkerError ? `${error.name} (${error.code})` : 'Something went wrong';
  byId('error-message').textContent = message;
  byId('error').hidden = false;
  byId('error').scrollIntoView({ block: 'nearest' });
}

async function start(): Promise<void> {
  const settings = settingsFrom(location.search);
  const session = new Session(showProgress);
  await session.open(settings.rank);
  await showModelCard(session);

  const samples = new SamplesPanel(session);
  const engine = new EnginePanel(session);
  new TrainPanel(session, settings, {
    onStart: () => engine.refresh({ step: false }),
    onStep: () => void engine.refresh({ step: true }).catch(showError),
    onPause: async () => {
      await samples.after();
      await engine.refresh({ step: false });
    },
    onReset: async () => {
      await samples.clear();
      await engine.refresh({ step: false });
    },
    onError: showError,
  });
  byId('loading').hidden = true;
  byId('app').hidden = false;
  await samples.before();
  await engine.refresh({ step: false });
}

byId('error-reload').addEventListener('click', () => location.reload());
start().catch(showError);
