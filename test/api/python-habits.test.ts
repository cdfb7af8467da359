/** Python's names and arguments where they were not translated: each is refused by name, none is a silent default. */
import { afterAll, expect, it } from 'vitest';
import * as tinker from '../../src/index';

const BASE_MODEL = tinker.DEFAULT_BASE_MODEL;
const service = new tinker.ServiceClient();
afterAll(() => service.dispose());

const training = await service.createLoraTrainingClient({ rank: 1 });
const sampling = await service.createSamplingClient({ baseModel: BASE_MODEL });
const rest = service.createRestClient();

/** For values that the types refuse, as JavaScript lets them through. */
const loosely = <T>(value: unknown): T => value as T;
const ids = [72, 101, 108, 108, 111];
const prompt = tinker.ModelInput.fromInts(ids);
const lossFnInputs = { target_tokens: ids, weights: ids.map(() => 1) };
const datum = new tinker.Datum({ modelInput: prompt, lossFnInputs });
const train = (data: unknown): PromiseLike<unknown> => training.forward(loosely(data), 'cross_entropy');

it.each<[string, () => unknown]>([
  [
    'createLoraTrainingClient.base_model: ',
    () => service.createLoraTrainingClient(loosely({ base_model: BASE_MODEL })),
  ],
  [
    'createSamplingClient.model_path: ',
    () => service.createSamplingClient(loosely({ model_path: 'tinker://' })),
  ],
  ['ServiceClient.base_url: ', () => new tinker.ServiceClient(loosely({ base_url: 'https://example.org' }))],
  ['sample.num_samples: ', () => sampling.sample(loosely({ prompt, num_samples: 2 }))],
  ['sample.chunks: ', () => sampling.sample(loosely(prompt))],
  ['prompt: must be a ModelInput', () => sampling.sample({ prompt: loosely(ids) })],
  ['prompt: must be a ModelInput', () => sampling.computeLogprobs(loosely({ prompt }))],
  ['saveState.ttl_seconds: ', () => training.saveState('x', loosely({ ttl_seconds: 1 }))],
  [
    'saveWeightsForSampler.overwrite: ',
    () => training.saveWeightsForSampler('x', loosely({ overwrite: true })),
  ],
  ['page: takes an object with limit, offset, got 50', () => rest.listTrainingRuns(loosely(50))],
  ['checkpoint_id: expected weights/NAME', () => rest.getCheckpointArchiveUrl('run-id', 'checkpoint-123')],
  ['AdamParams.learning_rate: ', () => training.optimStep(loosely({ learning_rate: 1e-4 }))],
  ['AdamParams: takes an object with learningRate', () => training.optimStep(loosely(1e-4))],
  ['result.timeout: ', () => training.forward([datum], 'cross_entropy').result(loosely({ timeout: 30 }))],
  ['Datum.model_input: ', () => new tinker.Datum(loosely({ model_input: prompt }))],
  [
    'createTrainingClientFromState.base_model: ',
    () =>
      service.createTrainingClientFromState(
        'tinker://run-id/weights/0001',
        loosely({ base_model: BASE_MODEL }),
      ),
  ],
  [
    'importCheckpoint.base_model: ',
    () => rest.importCheckpoint(new Blob(), loosely({ name: 'x', base_model: BASE_MODEL })),
  ],
  ['data: must be a list', () => train(datum)],
  ['data[0]: must be a Datum', () => train([{ modelInput: prompt, lossFnInputs }])],
  [
    'data[0].model_input: must be a ModelInput',
    () => train([new tinker.Datum({ modelInput: loosely(ids), lossFnInputs })]),
  ],
  [
    "TensorData.fromArray(list, 'int64')",
    () =>
      train([
        new tinker.Datum({
          modelInput: prompt,
          lossFnInputs: { ...lossFnInputs, target_tokens: tinker.TensorData.fromArray(ids) },
        }),
      ]),
  ],
])('%s', async (named, call) => {
  const error = await (async () => call())().then(
    () => expect.fail('it resolved'),
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(tinker.BadRequestError);
  expect((error as Error).message).toContain(named);
});
