/** What `gpu-crash.test.ts` has a page do, through the public interface and the real worker. */
import { Datum, ModelInput, ServiceClient, type EngineStats } from '../../../src/index';

/** Everything that must be equal, bit for bit. */
export interface Run {
  readonly losses: number[];
  readonly tokens: number[];
  readonly logprobs: number[];
}

const tokens = Array.from(new TextEncoder().encode('The quick brown fox jumps over the lazy dog.'));
const data = [
  new Datum({
    modelInput: ModelInput.fromInts(tokens.slice(0, -1)),
    lossFnInputs: { target_tokens: tokens.slice(1), weights: tokens.slice(1).map(() => 1) },
  }),
];

const service = new ServiceClient({ device: 'webgpu' });
let steps = 0;

const page = {
  /** Trains, and samples what came of it. */
  async train(count: number): Promise<Run> {
    steps = 0;
    await using client = await service.createLoraTrainingClient({ rank: 4, seed: 1 });
    const losses: number[] = [];
    for (let i = 0; i < count; i++) {
      const pass = client.forwardBackward(data, 'cross_entropy');
      await client.optimStep({ learningRate: 1e-3 });
      losses.push((await pass).metrics['loss:sum']!);
      steps++;
    }
    await using sampler = await client.saveWeightsAndGetSamplingClient();
    const { sequences } = await sampler.sample({
      prompt: ModelInput.fromInts(tokens.slice(0, 8)),
      samplingParams: { temperature: 1, seed: 1, maxTokens: 12 },
    });
    const { tokens: drawn, logprobs } = sequences[0]!;
    return { losses, tokens: [...drawn], logprobs: [...logprobs] };
  },
  steps: () => steps,
  stats: (): Promise<EngineStats> => service.stats(),
};

export type GpuCrashPage = typeof page;
Object.assign(globalThis, { gpuCrashPage: page });
