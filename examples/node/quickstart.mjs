/** Fine-tune and sample in plain Node, without a GPU, a browser or a key: `node examples/node/quickstart.mjs`. */
import { Datum, ModelInput, ServiceClient } from 'webtinker';

const training = await new ServiceClient().createLoraTrainingClient({ rank: 32, seed: 1 });
const tokenizer = await training.getTokenizer();
const prompt = tokenizer.encode('English: banana split\nPig Latin:');
const tokens = [...prompt, ...tokenizer.encode(' anana-bay plit-say\n')];
const target_tokens = tokens.slice(1);
const weights = target_tokens.map((_, i) => (i < prompt.length - 1 ? 0 : 1)); // only the answer carries loss
const datum = new Datum({
  modelInput: ModelInput.fromInts(tokens.slice(0, -1)),
  lossFnInputs: { target_tokens, weights },
});

for (let step = 1; step <= 15; step++) {
  const forwardBackward = training.forwardBackward([datum], 'cross_entropy'); // queued at once …
  await training.optimStep({ learningRate: 5e-3 }); // … and so is this: no wait in between
  console.log(`step ${step}: loss ${(await forwardBackward).metrics['loss:sum'].toFixed(3)}`);
}

const sampler = await training.saveWeightsAndGetSamplingClient();
const samplingParams = { maxTokens: 30, temperature: 0, stop: ['\n'] };
const { sequences } = await sampler.sample({
  prompt: ModelInput.fromInts(prompt),
  numSamples: 1,
  samplingParams,
});
console.log(`banana split → ${tokenizer.decode(sequences[0].tokens).trim()}`);
