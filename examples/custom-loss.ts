/**
 * Losses of your own: two that are differentiated for you, one with its gradient: `npm run example custom-loss [STEPS]`
 *
 * The first two are those of the Tinker documentation, which writes them in PyTorch; here jax-js does
 * the differentiating. A loss is a function of the log-probability of every target, and may be anything.
 */
import { numpy as np } from '@jax-js/jax';
import { Datum, ModelInput, ServiceClient, TensorData, type CustomLossFn } from '../src/index';
import { jaxLoss } from '../src/jax';

const [steps = '8'] = new URLSearchParams(location.search).getAll('arg');
const LEARNING_RATE = 2e-3;

/** The sum of all squared log-probabilities: least where every token is certain. */
const logprobSquaredLoss = jaxLoss((_data, logprobs) => {
  const loss = np.square(np.concatenate(logprobs)).sum();
  // an array can be used once; `.ref` keeps it for another use
  return { loss: loss.ref, metrics: { logprob_squared_loss: loss } };
});

/** The variance over the tokens of all sequences: least where all are equally likely. */
const varianceLoss = jaxLoss((_data, logprobs) => {
  const variance = np.var_(np.concatenate(logprobs), null, { correction: 1 });
  return { loss: variance.ref, metrics: { variance_loss: variance } };
});

/** The first again, by hand: d(x²)/dx = 2x. Needs no jax-js. */
const byHand: CustomLossFn = (_data, logprobs) => {
  const values = logprobs.map((tensor) => tensor.toArray());
  const loss = values.flat().reduce((sum, x) => sum + x * x, 0);
  const gradients = values.map((row) => TensorData.fromArray(row.map((x) => 2 * x)));
  return { loss, gradients, metrics: { logprob_squared_loss: loss } };
};

const service = new ServiceClient();
const LOSSES = { logprobSquaredLoss, varianceLoss, byHand };
for (const [name, lossFn] of Object.entries(LOSSES)) {
  const training = await service.createLoraTrainingClient({ rank: 16, seed: 1 });
  const tokenizer = await training.getTokenizer();
  const data = ['It was the best of times,', 'it was the worst of times.'].map((text) => {
    const tokens = tokenizer.encode(text);
    return new Datum({
      modelInput: ModelInput.fromInts(tokens.slice(0, -1)),
      lossFnInputs: { target_tokens: tokens.slice(1) },
    });
  });

  console.log(`\n${name}`);
  for (let step = 1; step <= Number(steps); step++) {
    const forwardBackward = training.forwardBackwardCustom(data, lossFn);
    const optim = training.optimStep({ learningRate: LEARNING_RATE });
    const { metrics } = await forwardBackward;
    await optim;
    const [key] = Object.keys(metrics).filter((metric) => metric.endsWith('_loss'));
    console.log(`Step ${String(step).padStart(2)}  ${key} ${metrics[key!]!.toFixed(4)}`);
  }
  await training.dispose();
}
await service.dispose();
