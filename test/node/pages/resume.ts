/** What `reload.test.ts` has a page do, through the public interface and the real worker. */
import { Datum, ModelInput, ServiceClient, type TrainingClient } from '../../../src/index';

/** Everything that must be equal, bit for bit: the losses of ten steps, and each token's log-probability after them. */
export interface Continuation {
  readonly losses: number[];
  readonly logprobs: number[];
}

const service = new ServiceClient({ userMetadata: { page: location.hash } });
const rest = service.createRestClient();

const tokens = Array.from(new TextEncoder().encode('The quick brown fox jumps over the lazy dog.'));
const data = [
  new Datum({
    modelInput: ModelInput.fromInts(tokens.slice(0, -1)),
    lossFnInputs: { target_tokens: tokens.slice(1), weights: tokens.slice(1).map(() => 1) },
  }),
];

async function train(client: TrainingClient, steps: number): Promise<number[]> {
  const passes = Array.from({ length: steps }, () => {
    const pass = client.forwardBackward(data, 'cross_entropy');
    client.optimStep({ learningRate: 1e-3 });
    return pass;
  });
  return (await Promise.all(passes)).map(({ metrics }) => metrics['loss:sum']!);
}

async function tenSteps(client: TrainingClient): Promise<Continuation> {
  const losses = await train(client, 10);
  const { lossFnOutputs } = await client.forward(data, 'cross_entropy');
  return { losses, logprobs: Array.from(lossFnOutputs[0]!.logprobs!.data, Number) };
}

const page = {
  /** Trains, saves in the midst, and goes on. */
  async start(): Promise<{ path: string } & Continuation> {
    const client = await service.createLoraTrainingClient({ rank: 8 });
    await train(client, 3);
    const saved = client.saveState('three');
    const continuation = await tenSteps(client);
    return { ...(await saved), ...continuation };
  },
  async resume(path: string): Promise<Continuation> {
    return tenSteps(await service.createTrainingClientFromStateWithOptimizer(path));
  },
  async saveSampler(name: string): Promise<string> {
    const client = await service.createLoraTrainingClient({ rank: 4, seed: 1 });
    await train(client, 1);
    return (await client.saveWeightsForSampler(name)).path;
  },
  async sample(modelPath: string): Promise<number[]> {
    const sampler = await service.createSamplingClient({ modelPath });
    const prompt = ModelInput.fromInts(tokens.slice(0, 8));
    const { sequences } = await sampler.sample({
      prompt,
      samplingParams: { temperature: 0, maxTokens: 6 },
    });
    return [...sequences[0]!.logprobs];
  },
  async paths(): Promise<string[]> {
    return (await rest.listUserCheckpoints()).checkpoints.map(({ tinkerPath }) => tinkerPath);
  },
  delete: (path: string): Promise<void> => rest.deleteCheckpointFromTinkerPath(path),
  error: (path: string): Promise<string> =>
    page.resume(path).then(
      () => 'none',
      (error: Error) => error.name,
    ),
};

export type ResumePage = typeof page;
Object.assign(globalThis, { resumePage: page });
