/** What computes: the model card in the header, and the engine's counters. */
import { byId, fillFacts, formatBytes, formatCount } from './dom';
import { BASE_MODEL, type Session } from './session';

/** Fills the model card. */
export async function showModelCard(session: Session): Promise<void> {
  const { supportedModels, device } = await session.service.getServerCapabilities();
  const model = supportedModels.find(({ modelName }) => modelName === BASE_MODEL);
  fillFacts(byId('model-card'), [
    ['Model', BASE_MODEL],
    ['Vocabulary', `${formatCount(session.tokenizer.get_vocab().size)} tokens`],
    ['Context', `${formatCount(model?.maxContextLength ?? 0)} tokens`],
    [
      'Device',
      `${device.kind === 'webgpu' ? 'WebGPU' : device.kind}, ${device.adapter}${device.software ? ' (software)' : ''}`,
    ],
  ]);
}

/** Fills the engine panel. */
export async function showEngine(session: Session): Promise<void> {
  const stats = await session.service.stats();
  fillFacts(byId('engine-stats'), [
    ['Kernel launches', formatCount(stats.dispatches)],
    ['Submits', formatCount(stats.submits)],
    ['Pipelines', formatCount(stats.pipelines)],
    ['Buffers created', formatCount(stats.bufferCreations)],
    ['GPU memory now', formatBytes(stats.bytes)],
    ['GPU memory at most', formatBytes(stats.peakBytes)],
  ]);
}
