/** What computes: the model card in the header, and the engine's counters. */
import type { EngineStats } from '../src/index';
import { byId, fillFacts, formatBytes, formatCount } from './dom';
import { BASE_MODEL, type Session } from './session';

/** Fills the model card. */
export async function showModelCard(session: Session): Promise<void> {
  const { supportedModels, device } = await session.service.getServerCapabilities();
  const model = supportedModels.find(({ modelName }) => modelName === BASE_MODEL)!;
  const kind = device.kind === 'webgpu' ? 'WebGPU' : device.kind;
  fillFacts(byId('model-card'), [
    ['Model', model.modelName],
    ['Parameters', formatCount(model.parameters)],
    ['Vocabulary', `${formatCount(model.vocabSize)} tokens`],
    ['Context', `${formatCount(model.maxContextLength)} tokens`],
    ['Device', `${kind}, ${device.adapter}${device.software ? ' (software)' : ''}`],
  ]);
}

/** The engine's counters, as of the last step and the one before. */
export class EnginePanel {
  readonly #session: Session;
  #last: EngineStats | undefined;
  /** kernels and submits of the latest training step */
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
    fillFacts(byId('engine-stats'), [
      ['Kernels in a step', this.#step[0]],
      ['Submits in a step', this.#step[1]],
      ['Kernels so far', formatCount(stats.dispatches)],
      ['Pipelines', formatCount(stats.pipelines)],
      ['Buffers created', formatCount(stats.bufferCreations)],
      ['GPU memory now', formatBytes(stats.bytes)],
      ['GPU memory at most', formatBytes(stats.peakBytes)],
    ]);
  }
}
