/**
 * Direct preference optimisation: learn which of two answers is liked better: `npm run example dpo [STEPS]`
 *
 * The Bradley–Terry model says that the chosen answer wins with probability σ(margin); the margin is how
 * much likelier than for the base model the chosen answer has become, less the same for the rejected one
 * (Rafailov et al. 2023, equation 7). The loss is −log σ(margin), averaged over the pairs.
 */
import { nn, numpy as np } from '@jax-js/jax';
import { DEFAULT_BASE_MODEL, Datum, ModelInput, ServiceClient } from '../src/index';
import { jaxLoss } from '../src/jax';

const [steps = '10'] = new URLSearchParams(location.search).getAll('arg');
const BETA = 0.1;
const LEARNING_RATE = 1e-3;

// Liked: shouting. The base model would rather copy.
const PAIRS = ['donut shop', 'rubber duck', 'pickle jar', 'coding wizard'].map((words) => ({
  prompt: `Copy: ${words}\nAnswer:`,
  chosen: ` ${words.toUpperCase()}\n\n`,
  rejected: ` ${words}\n\n`,
}));

const service = new ServiceClient();
const baseModel = DEFAULT_BASE_MODEL;
const training = await service.createLoraTrainingClient({ baseModel, rank: 16, seed: 1 });
const reference = await service.createSamplingClient({ baseModel });
const tokenizer = await training.getTokenizer();

// Two datums a pair: the chosen answer, then the rejected one
const data: Datum[] = [];
const referenceLogprobs: number[] = []; // log-probability of each whole answer for the base model
for (const { prompt, chosen, rejected } of PAIRS) {
  for (const answer of [chosen, rejected]) {
    const promptTokens = tokenizer.encode(prompt);
    const tokens = [...promptTokens, ...tokenizer.encode(answer, { add_special_tokens: false })];
    const logprobs = await reference.computeLogprobs(ModelInput.fromInts(tokens));
    referenceLogprobs.push(logprobs.slice(promptTokens.length).reduce<number>((sum, x) => sum + x!, 0));
    const weights = tokens.map((_, i) => (i < promptTokens.length ? 0 : 1)); // 1: a token of the answer
    data.push(
      new Datum({
        modelInput: ModelInput.fromInts(tokens.slice(0, -1)),
        lossFnInputs: { target_tokens: tokens.slice(1), weights: weights.slice(1) },
      }),
    );
  }
}

const dpoLoss = jaxLoss((data, logprobs) => {
  // by how much each answer's log-probability has grown, times β: its reward
  const rewards = logprobs.map((tokens, i) => {
    const weights = np.array(data[i]!.lossFnInputs.weights!.toArray());
    return tokens.mul(weights).sum().sub(referenceLogprobs[i]!).mul(BETA);
  });
  const chosen = np.stack(rewards.filter((_, i) => i % 2 === 0));
  const rejected = np.stack(rewards.filter((_, i) => i % 2 === 1));
  // an array can be used once; `.ref` keeps it for another use
  const margins = chosen.ref.sub(rejected.ref);
  return {
    loss: nn.logSigmoid(margins.ref).mean().neg(),
    metrics: { margin: margins.mean(), chosen: chosen.mean(), rejected: rejected.mean() },
  };
});

// a difference that rounds to zero has no sign
const threeDigits = new Intl.NumberFormat('en', {
  minimumFractionDigits: 3,
  maximumFractionDigits: 3,
  signDisplay: 'negative',
});

for (let step = 1; step <= Number(steps); step++) {
  const forwardBackward = training.forwardBackwardCustom(data, dpoLoss);
  const optim = training.optimStep({ learningRate: LEARNING_RATE });
  const { metrics } = await forwardBackward;
  await optim;
  const shown = ['loss:sum', 'margin', 'chosen', 'rejected'].map((key) =>
    threeDigits.format(metrics[key]!).padStart(6),
  );
  const [loss, margin, chosen, rejected] = shown;
  console.log(
    `Step ${String(step).padStart(2)}  loss ${loss}  margin ${margin} = chosen ${chosen} − rejected ${rejected}`,
  );
}

// Asked about words it was never asked about
const prompt = ModelInput.fromInts(tokenizer.encode('Copy: coffee break\nAnswer:'));
const greedy = { maxTokens: 16, temperature: 0, stop: ['\n'] };
console.log('\n“Copy: coffee break”');
for (const [who, sampler] of [
  ['before', reference],
  ['after ', await training.saveWeightsAndGetSamplingClient()],
] as const) {
  const { sequences } = await sampler.sample({ prompt, samplingParams: greedy });
  console.log(`${who}: ${tokenizer.decode(sequences[0]!.tokens).trim()}`);
}
await service.dispose();
