/** A thousand training steps on the native runtime: memory does not grow. */
import { expect, it } from 'vitest';
import { nativeOpener } from '../../../src/engine/devices/onnx/native';
import { loadAnyModel } from '../../../src/node/models';
import { TINY, randomWeights, trainingRun, type Shape } from '../../../bench/onnx/llama';

const SMALL: Shape = {
  name: 'small',
  config: { ...TINY.config, hidden_size: 64, intermediate_size: 128, num_hidden_layers: 2, head_dim: 16 },
  sequences: 2,
  length: 16,
};

it('takes no more memory after a thousand steps than after a hundred', async () => {
  const run = await trainingRun(nativeOpener(), SMALL, randomWeights(SMALL), loadAnyModel);
  const resident = async (steps: number): Promise<number> => {
    for (let i = 0; i < steps; i++) await run.step();
    globalThis.gc?.();
    return process.memoryUsage().rss;
  };
  const before = await resident(100);
  const { bytes, pipelines } = await run.engine.stats();
  const after = await resident(1000);
  const stats = await run.engine.stats();
  expect(stats.bytes).toBe(bytes);
  expect(stats.pipelines).toBe(pipelines);
  console.log(`resident: ${(before / 1e6).toFixed(0)} MB, then ${(after / 1e6).toFixed(0)} MB`);
  // what is garbage and not yet collected comes and goes
  expect(after - before).toBeLessThan(32e6);
  await run.engine.dispose();
});
