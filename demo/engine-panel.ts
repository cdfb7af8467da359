/** What computes: the model card in the header, the device and why it was chosen, and the engine's counters. */
import type { EngineStats, GetServerCapabilitiesResponse } from '../src/index';
import { byId, counted, fillFacts, formatBytes, formatCount, h } from './dom';
import { BASE_MODEL, type Session } from './session';
import { DEVICES, type Device } from './url-state';

type ChosenDevice = GetServerCapabilitiesResponse['device'];

const KINDS: Record<Device, string> = {
  auto: 'the best there is',
  webgpu: 'WebGPU',
  wasm: 'WebAssembly',
  cpu: 'native code',
};

/** Fills the model card, and says what computes. */
export async function showModelCard(session: Session): Promise<void> {
  const { supportedModels, device } = await session.service.getServerCapabilities();
  const model = supportedModels.find(({ modelName }) => modelName === BASE_MODEL)!;
  fillFacts(byId('model-card'), [
    ['Model', model.modelName],
    ['Parameters', formatCount(model.parameters)],
    ['Vocabulary', `${formatCount(model.vocabSize)} tokens`],
    ['Context', `${formatCount(model.maxContextLength)} tokens`],
    ['Device', inWords(device)],
  ]);
  byId('device').textContent = inWords(device);
  byId('device-reason').textContent = `Why: ${device.reason}.`;
  // what is in backquotes is to be typed
  const words = (device.advice ?? '').split('`');
  byId('device-advice').replaceChildren(...words.map((text, i) => (i % 2 ? h('code', {}, text) : text)));
}

function inWords({ kind, adapter, software, threads }: ChosenDevice): string {
  const how = software ? ' (software)' : threads === null ? '' : `, ${counted(threads, 'thread')}`;
  return `${KINDS[kind]}, ${adapter}${how}`;
}

/** Lets the visitor choose what computes: the page starts anew with it. */
export function offerDevices(wanted: Device): void {
  const select = byId<HTMLSelectElement>('device-select');
  for (const device of DEVICES) select.add(new Option(KINDS[device], device));
  select.value = wanted;
  select.addEventListener('change', () => {
    const { searchParams } = new URL(location.href);
    searchParams.set('device', select.value);
    location.search = searchParams.toString();
  });
}

/** What the counters count, by what computes. */
const NAMES = {
  gpu: { launches: 'Kernels', submits: 'Submits', compiled: 'Pipelines' },
  graphs: { launches: 'Operators', submits: 'Graph runs', compiled: 'Graphs' },
};

/** The engine's counters, as of the last step and the one before. */
export class EnginePanel {
  readonly #session: Session;
  #last: EngineStats | undefined;
  /** launches and submits of the latest training step */
  #step: readonly [string, string] = ['–', '–'];

  constructor(session: Session) {
    this.#session = session;
  }

  /** Refreshes the counters. `step`: what was counted since the last call is one training step. */
  async refresh({ step }: { step: boolean }): Promise<void> {
    const stats = await this.#session.service.stats();
    if (step && this.#last) {
      const { dispatches, submits } = this.#last;
      this.#step = [formatCount(stats.dispatches - dispatches), formatCount(stats.submits - submits)];
    }
    this.#last = stats;
    const names = NAMES[stats.device.kind === 'webgpu' ? 'gpu' : 'graphs'];
    fillFacts(byId('engine-stats'), [
      [`${names.launches} in a step`, this.#step[0]],
      [`${names.submits} in a step`, this.#step[1]],
      [`${names.launches} so far`, formatCount(stats.dispatches)],
      [names.compiled, formatCount(stats.pipelines)],
      ['Buffers created', formatCount(stats.bufferCreations)],
      ['Memory now', formatBytes(stats.bytes)],
      ['Memory at most', formatBytes(stats.peakBytes)],
    ]);
  }
}
