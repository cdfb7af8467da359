/**
 * One LoRA training step (forward, backward, AdamW) of a 4-layer Llama on 8 × 128 tokens, through the whole
 * engine, beside jax-js doing the same step in the same page; and what the step asks of the GPU.
 */
import { defaultDevice, init } from '@jax-js/jax';
import type { DatumPayload } from '../src/api/contract/types';
import { webgpuOpener, type WebGpuDevice } from '../src/engine/devices/webgpu/webgpu-device';
import { Engine } from '../src/engine/engine';
import { adapterLayout } from '../src/engine/program/adapter';
import { forwardTrace, trainTrace } from '../src/engine/program/steps';
import type { Trace } from '../src/engine/trace';
import type { AdapterProfile } from '../src/kernels/op';
import { parseConfig } from '../src/models/config';
import { loadModel } from '../src/models/load';
import { census, installCensus } from './gpu-census';
import { expectAgreement, interleave, median, medianRatio, type Bench } from './harness';
import { JaxLlama, type LoraForm } from './jax-llama';
import { ADAM, BATCH, CONFIG, RANK, TOKENS, loraPairs, randomTokens, randomWeights } from './tiny-llama';

const SEED = 7;
const MODEL = 'bench/tiny-llama';

/** The training run in webtinker; a step returns the loss, a sum over tokens. */
async function webtinkerRun(): Promise<{ engine: Engine; modelId: string; step: () => Promise<number> }> {
  // any tokenizer: this model has no text
  const { tokenizer } = await loadModel('webtinker/pocket');
  const engine = await Engine.create({
    devices: [webgpuOpener()],
    device: 'webgpu',
    resolveModel: (name) =>
      Promise.resolve({
        name,
        configJson: CONFIG,
        config: parseConfig(CONFIG, name),
        tensors: randomWeights(),
        tokenizer,
      }),
  });
  const { sessionId } = await engine.createSession({ userMetadata: {} });
  const { modelId } = await engine.createModel({
    sessionId,
    baseModel: MODEL,
    lora: { rank: RANK, seed: SEED, trainMlp: true, trainAttn: true, trainUnembed: true },
    userMetadata: {},
  });
  const data = randomTokens().map((row): DatumPayload => {
    const targets = row.slice(1);
    return {
      tokens: row.slice(0, -1),
      lossFnInputs: {
        target_tokens: { dtype: 'int64', shape: [targets.length], data: Float64Array.from(targets) },
        weights: {
          dtype: 'float32',
          shape: [targets.length],
          data: new Float32Array(targets.length).fill(1),
        },
      },
    };
  });
  const step = async (): Promise<number> => {
    // both are submitted before either is awaited, as the documentation advises
    const pass = engine.forwardBackward({
      modelId,
      data,
      lossFn: 'cross_entropy',
      lossFnConfig: {},
      forwardOnly: false,
    });
    const update = engine.optimStep({ modelId, adamParams: { ...ADAM, gradClipNorm: 0 } });
    const [{ metrics }] = await Promise.all([pass, update]);
    return metrics['loss:sum']!;
  };
  return { engine, modelId, step };
}

/** Kernel launches that one more layer adds. */
function launchesPerLayer(profile: AdapterProfile): { forward: number; backward: number } {
  const launches = (make: (layers: number) => Trace): number => {
    const count = (layers: number): number =>
      make(layers).nodes.reduce((n, { op, node }) => n + op.webgpu(node, profile).length, 0);
    return count(3) - count(2);
  };
  const modelOf = (layers: number) => {
    const config = parseConfig({ ...CONFIG, num_hidden_layers: layers }, MODEL);
    const lora = { rank: RANK, trainAttn: true, trainMlp: true, trainUnembed: true };
    return { config, adapter: adapterLayout(config, lora) };
  };
  const forward = launches((n) => forwardTrace(modelOf(n), 'cross_entropy'));
  return { forward, backward: launches((n) => trainTrace(modelOf(n), 'cross_entropy')) - forward };
}

const bench: Bench = async (context) => {
  installCensus();
  if (!(await init('webgpu')).includes('webgpu')) throw new Error('jax-js found no WebGPU');
  defaultDevice('webgpu');
  const name = 'train-step 4×128, 8×128 tokens, LoRA 16';

  const { result: ours, counts: opening } = await census(async () => {
    const run = await webtinkerRun();
    const lora = loraPairs(await run.engine.debugGetAdapter(run.modelId));
    return { ...run, lora, losses: [await run.step(), await run.step(), await run.step()] };
  });
  const { engine, lora, losses } = ours;
  context.progress(
    `webtinker, loss per token: ${losses.map((l) => (l / BATCH / TOKENS).toFixed(5)).join(' ')}`,
  );

  const peers = new Map<LoraForm, JaxLlama>();
  for (const form of ['separate', 'merged'] as const) {
    const jax = new JaxLlama(randomWeights(), lora, randomTokens(), form);
    peers.set(form, jax);
    const theirs = [await jax.step(), await jax.step(), await jax.step()];
    context.progress(`jax-js ${form}: ${theirs.map((l) => (l / BATCH / TOKENS).toFixed(5)).join(' ')}`);
    theirs.forEach((loss, i) => expectAgreement(`loss of step ${i + 1}`, [losses[i]!], [loss], 1e-3));
  }

  const rounds = await interleave(
    {
      webtinker: ours.step,
      separate: () => peers.get('separate')!.step(),
      merged: () => peers.get('merged')!.step(),
    },
    context.rounds,
  );
  const faster = median(rounds.separate) <= median(rounds.merged) ? 'separate' : 'merged';
  const tokensPerSecond = (times: readonly number[]): number => (1000 * BATCH * TOKENS) / median(times);
  context.row(name, 'webtinker', median(rounds.webtinker), 'ms', 'lower');
  context.row(name, 'jax-js, x·Wᵀ + s·(x·Aᵀ)·Bᵀ', median(rounds.separate), 'ms', 'lower');
  context.row(name, 'jax-js, x·(W + s·B·A)ᵀ', median(rounds.merged), 'ms', 'lower');
  context.row(name, 'ratio to jax-js', medianRatio(rounds[faster], rounds.webtinker), '×', 'higher');
  context.row(name, 'webtinker', tokensPerSecond(rounds.webtinker), 'tokens/s', 'higher');
  context.row(name, 'jax-js', tokensPerSecond(rounds[faster]), 'tokens/s', 'higher');

  const before = await engine.stats();
  const { counts: warm } = await census(ours.step);
  const after = await engine.stats();
  const { counts: theirs } = await census(() => peers.get(faster)!.step());
  if (after.dispatches - before.dispatches !== warm.dispatches) {
    throw new Error(
      `stats() counted ${after.dispatches - before.dispatches} launches, the page ${warm.dispatches}`,
    );
  }
  for (const [subject, counts] of [
    ['webtinker', warm],
    ['jax-js', theirs],
  ] as const) {
    context.row('warm step: launches', subject, counts.dispatches, 'launches', 'lower');
    context.row('warm step: submits', subject, counts.submits, 'submits', 'lower');
    context.row('warm step: buffers created', subject, counts.bufferCreations, 'buffers', 'lower');
    context.row('warm step: bind groups created', subject, counts.bindGroups, 'bind groups', 'lower');
  }
  context.row('peak GPU memory', 'webtinker, stats()', after.peakBytes / 1e6, 'MB', 'lower');
  context.row('peak GPU memory', 'webtinker, all buffers', opening.peakBytes / 1e6, 'MB', 'lower');
  const perLayer = launchesPerLayer((engine.device as WebGpuDevice).context.profile);
  context.row('launches per layer', 'webtinker, forward', perLayer.forward, 'launches', 'lower');
  context.row('launches per layer', 'webtinker, backward', perLayer.backward, 'launches', 'lower');

  // jax-js alone, so that its buffers are not counted together with ours
  for (const jax of peers.values()) jax.dispose();
  await engine.dispose();
  const { counts: jaxMemory } = await census(async () => {
    const jax = new JaxLlama(randomWeights(), lora, randomTokens(), faster);
    await jax.step();
    await jax.step();
    jax.dispose();
  });
  context.row('peak GPU memory', 'jax-js, all buffers', jaxMemory.peakBytes / 1e6, 'MB', 'lower');
};

export default bench;
