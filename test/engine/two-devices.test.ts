/** One engine on WebGPU and one on WebAssembly, side by side: the same model, the same steps, the same tokens. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Engine } from '../../src/engine/engine';
import { expectClose, relativeError } from '../support/compare';
import {
  createModel,
  createSampler,
  crossEntropy,
  FIXTURE_NAMES,
  GREEDY,
  loadFixture,
  openEngine,
} from '../support/engine';

let webgpu: Engine;
let wasm: Engine;
beforeAll(async () => {
  webgpu = await openEngine({ device: 'webgpu' });
  wasm = await openEngine({ device: 'wasm' });
});
afterAll(() => Promise.all([webgpu?.dispose(), wasm?.dispose()]));

/** The same of both. */
const both = <T>(job: (engine: Engine) => Promise<T>): Promise<[T, T]> =>
  Promise.all([webgpu, wasm].map(job)) as Promise<[T, T]>;

for (const name of FIXTURE_NAMES) {
  it(`${name}: equal initial adapters, equal tokens, and training within rounding`, async () => {
    const fixture = await loadFixture(name);
    const [fresh, other] = await both(async (engine) =>
      engine.debugGetAdapter(await createModel(engine, fixture, null)),
    );
    expect(other).toEqual(fresh);

    const { losses: _losses, gradNorms: _norms, final: _final, ...adamParams } = fixture.runs.clipped;
    const [gpuRun, wasmRun] = await both(async (engine) => {
      const modelId = await createModel(engine, fixture);
      const losses: number[] = [];
      for (let i = 0; i < 3; i++) {
        losses.push((await crossEntropy(engine, modelId, fixture.batch)).loss);
        await engine.optimStep({ modelId, adamParams });
      }
      const samplerId = await createSampler(engine, { modelId });
      const { sequences, promptLogprobs } = await engine.sample({
        samplerId,
        prompt: fixture.greedy.adapted.prompt,
        numSamples: 4,
        params: { ...GREEDY, temperature: 1, topP: 0.95, seed: 42, maxTokens: 16 },
        promptLogprobs: true,
        topkPromptLogprobs: 0,
      });
      return { losses, sequences, promptLogprobs, adapter: await engine.debugGetAdapter(modelId) };
    });
    expectClose(wasmRun.losses, gpuRun.losses, { atol: 0, rtol: 1e-5 }, 'losses');
    expect(wasmRun.sequences.map((s) => s.tokens)).toEqual(gpuRun.sequences.map((s) => s.tokens));
    wasmRun.sequences.forEach((s, i) =>
      expectClose(s.logprobs, gpuRun.sequences[i]!.logprobs, { atol: 1e-4, rtol: 0 }, `sample ${i}`),
    );
    const given = (run: typeof gpuRun): number[] => run.promptLogprobs!.slice(1) as number[];
    expectClose(given(wasmRun), given(gpuRun), { atol: 1e-4, rtol: 0 }, 'prompt');
    for (const [matrix, values] of gpuRun.adapter) {
      expect(relativeError(wasmRun.adapter.get(matrix)!, values), matrix).toBeLessThan(1e-3);
    }
  });
}
