/**
 * The LoRA training step of `train-step.bench.ts` with ONNX Runtime as WebAssembly, through the whole engine, beside
 * jax-js on WebAssembly in the same page; both with as many threads as they take.
 */
import { defaultDevice, init } from '@jax-js/jax';
import { wasmOpener } from '../../src/engine/devices/onnx/wasm';
import { loadModel } from '../../src/models/load';
import { expectAgreement, interleave, median, medianRatio, timed, type Bench } from '../harness';
import { JaxLlama, type LoraForm } from '../jax-llama';
import { loraPairs } from '../tiny-llama';
import { RANK, TINY, randomTokens, randomWeights, trainingRun } from './llama';

const bench: Bench = async (context) => {
  if (!(await init('wasm')).includes('wasm')) throw new Error('jax-js found no WebAssembly');
  defaultDevice('wasm');
  const opening = performance.now();
  const ours = await trainingRun(wasmOpener(), TINY, randomWeights(TINY), loadModel);
  const opened = performance.now() - opening;
  const lora = loraPairs(await ours.engine.debugGetAdapter(ours.modelId));
  const losses: number[] = [];
  const first = await timed(async () => losses.push(await ours.step()));
  losses.push(await ours.step());

  const peers = {} as Record<LoraForm, JaxLlama>;
  for (const form of ['separate', 'merged'] as const) {
    const jax = new JaxLlama(randomWeights(TINY), lora, randomTokens(TINY), form);
    peers[form] = jax;
    for (const loss of losses) expectAgreement(`loss of jax-js, ${form}`, [await jax.step()], [loss], 1e-3);
  }
  const rounds = await interleave(
    { ours: () => ours.step(), separate: () => peers.separate.step(), merged: () => peers.merged.step() },
    context.rounds,
  );
  const faster = median(rounds.separate) <= median(rounds.merged) ? 'separate' : 'merged';
  const { threads } = ours.engine.device.info;
  const name = `wasm step ${TINY.name}, LoRA ${RANK}, ${threads} threads`;
  context.row(name, 'webtinker', median(rounds.ours), 'ms', 'lower');
  context.row(name, 'jax-js, x·Wᵀ + s·(x·Aᵀ)·Bᵀ', median(rounds.separate), 'ms', 'lower');
  context.row(name, 'jax-js, x·(W + s·B·A)ᵀ', median(rounds.merged), 'ms', 'lower');
  context.row(name, 'ratio to jax-js', medianRatio(rounds[faster], rounds.ours), '×', 'higher');
  context.row(name, 'webtinker, engine and first step', opened + first, 'ms', 'lower');
  for (const jax of Object.values(peers)) jax.dispose();
  await ours.engine.dispose();
};

export default bench;
