/** The code of README.md, word for word: `npm run example first-steps`. */
import { Datum, ModelInput, ServiceClient } from '../src/index';

const service = new ServiceClient();
const training = await service.createLoraTrainingClient({ baseModel: 'webtinker/pocket', rank: 32, seed: 1 });
const tokenizer = await training.getTokenizer();

const prompt = tokenizer.encode('English: banana split\nPig Latin:');
const answer = tokenizer.encode(' anana-bay plit-say\n\n', { add_special_tokens: false });
const tokens = [...prompt, ...answer];
const weights = [...prompt.map(() => 0), ...answer.map(() => 1)]; // only the answer carries loss
const modelInput = ModelInput.fromInts(tokens.slice(0, -1));
const datum = new Datum({
  modelInput,
  lossFnInputs: { target_tokens: tokens.slice(1), weights: weights.slice(1) },
});

for (let step = 0; step < 20; step++) {
  const forwardBackward = training.forwardBackward([datum], 'cross_entropy'); // queued at once …
  const optim = training.optimStep({ learningRate: 5e-3 }); // … and so is this: no wait in between
  console.log((await forwardBackward).metrics['loss:sum']);
  await optim;
}
const sampler = await training.saveWeightsAndGetSamplingClient();
const samplingParams = { maxTokens: 20, temperature: 0, stop: ['\n'] };
const { sequences } = await sampler.sample({
  prompt: ModelInput.fromInts(prompt),
  numSamples: 1,
  samplingParams,
});
console.log(tokenizer.decode(sequences[0]!.tokens));
