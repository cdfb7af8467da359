/**
 * Reinforcement learning with a toy reward, by any of the four losses for it: `npm run example rl [LOSS] [ITERATIONS]`
 *
 * The reward is the share of vowels in what the model writes. Nobody shows it such text: it samples,
 * the better half of each group of samples becomes likelier, the other half less likely. That ends,
 * as it should, in nothing but vowels: a model learns what is rewarded, not what is meant.
 */
import { Datum, ModelInput, ServiceClient, type LossFnName } from '../src/index';

// LOSS: importance_sampling, ppo, cispo or dro
const [lossFn = 'ppo', iterations = '8'] = new URLSearchParams(location.search).getAll('arg');
const PROMPTS = ['The king ', 'She was ', 'In the ', 'And he '];
const GROUP = 8; // samples of each prompt
const SUBSTEPS = 2; // optimizer steps on each batch of samples
const LEARNING_RATE = 1e-2;

const reward = (text: string) => [...text].filter((letter) => 'aeiou'.includes(letter)).length / text.length;
const mean = (values: readonly number[]) => values.reduce((sum, x) => sum + x, 0) / values.length;
const spread = (values: readonly number[]) => Math.sqrt(mean(values.map((x) => (x - mean(values)) ** 2)));

const serviceClient = new ServiceClient();
const trainingClient = await serviceClient.createLoraTrainingClient({ rank: 32, seed: 1 });
const tokenizer = await trainingClient.getTokenizer();

console.log(`${lossFn}: ${iterations} iterations of ${PROMPTS.length} × ${GROUP} samples`);
for (let iteration = 1; iteration <= Number(iterations); iteration++) {
  // Sample a group of answers to each prompt from the adapter as it is now
  const samplingClient = await trainingClient.saveWeightsAndGetSamplingClient();
  const groups = await Promise.all(
    PROMPTS.map(async (text, i) => {
      const prompt = tokenizer.encode(text);
      const { sequences } = await samplingClient.sample({
        prompt: ModelInput.fromInts(prompt),
        numSamples: GROUP,
        samplingParams: { maxTokens: 12, temperature: 1, seed: 100 * iteration + i },
      });
      const answers = sequences.map(({ tokens }) => tokenizer.decode(tokens));
      return { prompt, sequences, answers, rewards: answers.map(reward) };
    }),
  );
  await samplingClient.dispose();

  // How much better than the rest of its group each answer is, in standard deviations: the advantage of its tokens
  const data = groups.flatMap(({ prompt, sequences, rewards }) =>
    sequences.map(({ tokens, logprobs }, i) => {
      const advantage = (rewards[i]! - mean(rewards)) / (spread(rewards) + 1e-6);
      const zeros = prompt.slice(1).map(() => 0); // the prompt was not sampled: nothing to learn there
      const all = [...prompt, ...tokens];
      return new Datum({
        modelInput: ModelInput.fromInts(all.slice(0, -1)),
        lossFnInputs: {
          target_tokens: all.slice(1),
          logprobs: [...zeros, ...logprobs], // as they were when they were sampled
          advantages: [...zeros, ...tokens.map(() => advantage)],
        },
      });
    }),
  );

  // In the second step the model is no longer the one that sampled: there the four losses differ
  for (let substep = 0; substep < SUBSTEPS; substep++) {
    const forwardBackward = trainingClient.forwardBackward(data, lossFn as LossFnName);
    const optim = trainingClient.optimStep({ learningRate: LEARNING_RATE });
    await forwardBackward;
    await optim;
  }

  const rewards = groups.flatMap((group) => group.rewards);
  const sample = JSON.stringify(PROMPTS[0]! + groups[0]!.answers[0]!);
  console.log(
    `Iteration ${String(iteration).padStart(2)}  mean reward ${mean(rewards).toFixed(3)}  ${sample}`,
  );
}

await serviceClient.dispose();
