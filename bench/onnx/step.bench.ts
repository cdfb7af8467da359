/**
 * One LoRA training step on the native ONNX Runtime, through the whole engine, beside PyTorch + peft with the same
 * weights, batch and number of threads; and the memory it takes.
 */
import { availableParallelism } from 'node:os';
import { nativeOpener } from '../../src/engine/devices/onnx/native';
import { loadAnyModel } from '../../src/node/models';
import { expectAgreement, median, medianRatio, timed, type Bench } from '../harness';
import { LARGE, RANK, TINY, randomWeights, trainingRun, type Shape } from './llama';
import { peftRun } from './peft';

const THREADS = availableParallelism();
const megabytes = (bytes: number): number => bytes / 1e6;

async function compare(shape: Shape, context: Parameters<Bench>[0]): Promise<void> {
  const { rounds } = context;
  const bench = `node step ${shape.name}, LoRA ${RANK}, ${THREADS} threads`;
  const weights = randomWeights(shape);
  const base = [...weights.values()].reduce((n, { data }) => n + data.byteLength, 0);
  const peer = await peftRun(shape, weights, THREADS, (text) => context.progress(text));
  const run = await trainingRun(nativeOpener({ threads: THREADS }), shape, weights, loadAnyModel);
  // from here on the engine's copy is the only one
  weights.clear();
  let loss = NaN;
  const first = await timed(async () => (loss = await run.step()));
  const theirs = await peer?.step();
  if (theirs) expectAgreement('loss of the first step', [loss], [theirs.loss], 1e-4);
  const [ours, peers]: [number[], number[]] = [[], []];
  for (let round = 0; round < rounds; round++) {
    ours.push(await timed(() => run.step()));
    if (peer) peers.push((await peer.step()).ms);
  }
  context.row(bench, 'webtinker', median(ours), 'ms', 'lower');
  if (peer) {
    context.row(bench, peer.name, median(peers), 'ms', 'lower');
    context.row(bench, `ratio to ${peer.name}`, medianRatio(peers, ours), '×', 'higher');
  }
  context.row(bench, 'webtinker, first step', first, 'ms', 'lower');
  context.row(bench, 'base weights', megabytes(base), 'MB', 'lower');
  context.row(bench, 'webtinker, peak of the process', process.resourceUsage().maxRSS / 1e3, 'MB', 'lower');
  const { peakBytes } = await run.engine.stats();
  context.row(bench, 'webtinker, stats()', megabytes(peakBytes), 'MB', 'lower');
  peer?.dispose();
  await run.engine.dispose();
}

const bench: Bench = async (context) => {
  for (const shape of [TINY, LARGE]) {
    if (shape.name.includes(context.filter)) await compare(shape, context);
  }
};

export default bench;
