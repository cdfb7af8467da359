/** Code written for Tinker, as it may stand in a project: it takes the service to use, and knows nothing of where that computes. */
import { Datum, ModelInput } from 'webtinker';

const promptOf = (question) => `Q: ${question}\nA:`;

/** Trains answers to questions. Resolves with the loss of every step and a function that asks the model. */
export async function teach(service, pairs, { steps = 15, learningRate = 5e-3 } = {}) {
  const training = await service.createLoraTrainingClient({ rank: 16, seed: 1 });
  const tokenizer = await training.getTokenizer();
  const data = pairs.map(([question, answer]) => {
    const prompt = tokenizer.encode(promptOf(question));
    const tokens = [...prompt, ...tokenizer.encode(` ${answer}\n`)];
    const target_tokens = tokens.slice(1);
    const weights = target_tokens.map((_, i) => (i < prompt.length - 1 ? 0 : 1));
    const modelInput = ModelInput.fromInts(tokens.slice(0, -1));
    return new Datum({ modelInput, lossFnInputs: { target_tokens, weights } });
  });
  const losses = [];
  for (let step = 0; step < steps; step++) {
    const forwardBackward = training.forwardBackward(data, 'cross_entropy');
    await training.optimStep({ learningRate });
    losses.push((await forwardBackward).metrics['loss:sum']);
  }
  const sampler = await training.saveWeightsAndGetSamplingClient();
  const ask = async (question) => {
    const { sequences } = await sampler.sample({
      prompt: ModelInput.fromInts(tokenizer.encode(promptOf(question))),
      numSamples: 1,
      samplingParams: { maxTokens: 20, temperature: 0, stop: ['\n'] },
    });
    return tokenizer.decode(sequences[0].tokens).trim();
  };
  return { losses, ask };
}
