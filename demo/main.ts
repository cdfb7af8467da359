/** Starts the engine, shows how far it is, then hands the page to its panels. */
import { DeviceUnavailableError, TinkerError, type ProgressEvent } from '../src/index';
import { byId, counted, formatBytes, messageOf } from './dom';
import { EnginePanel, offerDevices, showModelCard } from './engine-panel';
import { ImportPanel } from './import-panel';
import { RunsPanel } from './runs-panel';
import { SamplesPanel } from './samples-panel';
import { Session } from './session';
import { StoragePanel } from './storage-panel';
import { StreamPanel } from './stream-panel';
import { Tabs } from './tabs';
import { TrainPanel } from './train-panel';
import { deviceFrom, settingsFrom } from './url-state';

const PHASES: Record<ProgressEvent['phase'], string> = {
  download: 'Loading the model',
  upload: 'Moving the model to the device',
  compile: 'Compiling (the first time takes longest)',
  export: 'Writing the model',
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
  const message = messageOf(error);
  if (error instanceof DeviceUnavailableError) {
    byId('no-device-reason').textContent = message;
    byId('no-device').hidden = false;
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
  const device = deviceFrom(location.search);
  offerDevices(device);
  const session = new Session(device, showProgress);
  await session.open(settings.rank);
  await showModelCard(session);

  const samples = new SamplesPanel(session);
  const engine = new EnginePanel(session);
  const train = new TrainPanel(session, settings, {
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
    onShowSaved: () => tabs.show('checkpoints'),
    onError: showError,
  });

  const stream = new StreamPanel(session);
  const storage = new StoragePanel(session);
  const runs = new RunsPanel(session, {
    askBeforeResume: () =>
      train.unsavedSteps > 0
        ? `Drop ${counted(train.unsavedSteps, 'unsaved step')} of the Train tab?`
        : undefined,
    onResume: async ({ tinkerPath }, name) => {
      if (train.busy) throw new Error('The Train tab is at work: stop it first, or wait until it has ended.');
      await train.resume(tinkerPath, name, () => tabs.show('train'));
    },
    onSample: (checkpoint, name) => stream.open(checkpoint, name),
    onDeleted: (checkpoint) => stream.forget(checkpoint),
    onChange: () => list(),
  });
  const list = async () => {
    await Promise.all([runs.refresh(), storage.refresh()]);
  };
  new ImportPanel(session, list);
  byId('runs-train').addEventListener('click', () => tabs.show('train'));
  let shown = '';
  const tabs = new Tabs(byId('tabs'), (name) => {
    shown = name;
    if (name === 'checkpoints') list().catch(showError);
  });
  // another tab of the browser may have saved or deleted something
  addEventListener('focus', () => {
    if (shown === 'checkpoints') list().catch(showError);
  });

  byId('loading').hidden = true;
  byId('app').hidden = false;
  await samples.before();
  await engine.refresh({ step: false });
}

byId('error-reload').addEventListener('click', () => location.reload());
start().catch(showError);
