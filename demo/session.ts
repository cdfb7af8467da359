/** The page's one connection to the engine: a service, the base model's sampler, and the adapter in training. */
import {
  BadRequestError,
  ModelInput,
  ServiceClient,
  type Datum,
  type ProgressEvent,
  type RestClient,
  type SamplingClient,
  type Tokenizer,
  type TrainingClient,
} from '../src/index';
import { promptOf } from './pig-latin';
import type { Device } from './url-state';

export const BASE_MODEL = 'webtinker/pocket';
/** Fixes the fresh adapter, so that a link to the page repeats a run. */
const SEED = 1;

export interface StepResult {
  /** mean negative log-probability of the weighted targets */
  readonly lossPerToken: number;
  /** per datum, log-probability of each target */
  readonly logprobs: readonly (readonly number[])[];
}

export class Session {
  readonly service: ServiceClient;
  /** runs and checkpoints */
  readonly rest: RestClient;
  tokenizer!: Tokenizer;
  #base!: SamplingClient;
  #training!: TrainingClient;
  #rank = 0;

  constructor(device: Device, onProgress: (event: ProgressEvent) => void) {
    this.service = new ServiceClient({ device, onProgress });
    this.rest = this.service.createRestClient();
  }

  /** Loads the base model and makes a fresh adapter of the given rank. */
  async open(rank: number): Promise<void> {
    this.#base = await this.service.createSamplingClient({ baseModel: BASE_MODEL });
    await this.startOver(rank);
    this.tokenizer = await this.#training.getTokenizer();
  }

  get rank(): number {
    return this.#rank;
  }

  /** Forgets what was learned: a fresh adapter takes the place of the present one. */
  async startOver(rank: number): Promise<void> {
    await this.#replace(
      await this.service.createLoraTrainingClient({ baseModel: BASE_MODEL, rank, seed: SEED }),
      rank,
    );
  }

  /**
   * Puts a saved adapter in the place of the present one.
   * @returns whether the optimizer's state came with it; an imported adapter has none
   */
  async resume(tinkerPath: string): Promise<{ optimizer: boolean }> {
    const { loraRank } = await this.rest.getWeightsInfoByTinkerPath(tinkerPath);
    const options = { userMetadata: { resumed_from: tinkerPath } };
    try {
      const training = await this.service.createTrainingClientFromStateWithOptimizer(tinkerPath, options);
      await this.#replace(training, loraRank);
      return { optimizer: true };
    } catch (error) {
      if (!(error instanceof BadRequestError)) throw error;
    }
    await this.#replace(await this.service.createTrainingClientFromState(tinkerPath, options), loraRank);
    return { optimizer: false };
  }

  async #replace(fresh: TrainingClient, rank: number): Promise<void> {
    const old = this.#rank > 0 ? this.#training : undefined;
    this.#training = fresh;
    this.#rank = rank;
    await old?.dispose();
  }

  /**
   * Saves the adapter as it is now under one name twice: with the optimizer, to train on, and alone, to
   * sample from. When one of them fails, neither stays.
   * @returns path of the training checkpoint
   */
  async save(name: string): Promise<string> {
    const { path } = await this.#training.saveState(name);
    try {
      await this.#training.saveWeightsForSampler(name);
    } catch (error) {
      await this.rest.deleteCheckpointFromTinkerPath(path);
      throw error;
    }
    return path;
  }

  /** One optimizer step over all the data. */
  async step(
    data: readonly Datum[],
    weights: readonly (readonly number[])[],
    learningRate: number,
  ): Promise<StepResult> {
    // both are queued before either is awaited: no wait between them
    const forwardBackward = this.#training.forwardBackward(data, 'cross_entropy');
    const optim = this.#training.optimStep({ learningRate });
    const [{ lossFnOutputs, metrics }] = await Promise.all([forwardBackward, optim]);
    const total = weights.flat().reduce((sum, w) => sum + w, 0);
    return {
      lossPerToken: metrics['loss:sum']! / total,
      logprobs: lossFnOutputs.map(({ logprobs }) => logprobs!.toArray()),
    };
  }

  /** Per datum the log-probability of each target, without training. */
  async logprobs(data: readonly Datum[]): Promise<number[][]> {
    const { lossFnOutputs } = await this.#training.forward(data, 'cross_entropy');
    return lossFnOutputs.map(({ logprobs }) => logprobs!.toArray());
  }

  /** A sampler of the adapter as it is now. The caller disposes it. */
  trainedSampler(): Promise<SamplingClient> {
    return this.#training.saveWeightsAndGetSamplingClient();
  }

  get baseSampler(): SamplingClient {
    return this.#base;
  }

  /** The greedy answer of a sampler to one phrase, as text up to the end of the line. */
  async translate(sampler: SamplingClient, english: string): Promise<string> {
    const prompt = ModelInput.fromInts(this.tokenizer.encode(promptOf(english)));
    const { sequences } = await sampler.sample({
      prompt,
      numSamples: 1,
      samplingParams: { maxTokens: 48, temperature: 0, stop: ['\n'] },
    });
    return this.tokenizer.decode(sequences[0]!.tokens, { skip_special_tokens: true }).trim();
  }
}
