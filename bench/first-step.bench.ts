/**
 * What a new visitor waits for: making a training run on the default model, and its first training step with
 * every shader or graph still to compile, beside a warm step. Through the public clients and the Web Worker. The page is
 * fresh, and so is the browser (its shader cache is empty).
 */
import { PreTrainedTokenizer } from '@huggingface/transformers';
import { EXAMPLES, datumOf, rowsOf } from '../demo/pig-latin';
import { DEFAULT_BASE_MODEL, ServiceClient } from '../src/index';
import { loadModel } from '../src/models/load';
import { interleave, median, timed, type Bench } from './harness';

const bench: Bench = async (context) => {
  // tokens first, so that nothing lies between the new training run and its first step
  const { tokenizer: files } = await loadModel(DEFAULT_BASE_MODEL);
  const tokenizer = new PreTrainedTokenizer(files.tokenizerJson, files.tokenizerConfig);
  const data = EXAMPLES.map((example) => datumOf(rowsOf(example, tokenizer)));
  const tokens = data.reduce((n, d) => n + d.modelInput.length, 0);

  for (const device of ['webgpu', 'wasm'] as const) {
    const service = new ServiceClient({ device });
    const start = performance.now();
    const training = await service.createLoraTrainingClient({ rank: 16, seed: 1 });
    const create = performance.now() - start;
    const losses: number[] = [];
    const step = async (): Promise<void> => {
      const pass = training.forwardBackward(data, 'cross_entropy');
      const update = training.optimStep({ learningRate: 1e-3 });
      const { metrics } = await pass;
      await update;
      losses.push(metrics['loss:sum']!);
    };
    const first = await timed(step);
    const { pipelines } = await service.stats();
    const rounds = await interleave({ warm: step }, Math.max(3, context.rounds));
    const warm = median(rounds.warm);
    if (!(losses.at(-1)! < losses[0]!)) throw new Error(`the loss does not fall: ${losses.join(' ')}`);

    const name = `first-step webtinker/pocket, 7 examples, ${tokens} tokens, ${device}`;
    context.row(name, 'createLoraTrainingClient', create, 'ms', 'lower');
    context.row(name, 'first step', first, 'ms', 'lower');
    context.row(name, 'pipelines or graphs compiled', pipelines, 'programs', 'lower');
    context.row(name, 'warm step', warm, 'ms', 'lower');
    context.row(name, 'createLoraTrainingClient and first step', create + first, 'ms', 'lower');
    context.row(name, 'ratio first to warm', first / warm, '×', 'lower');
    await service.dispose();
  }
};

export default bench;
