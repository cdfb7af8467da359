/**
 * The quick start of the Tinker documentation, line for line: `npm run example pig-latin`.
 *
 * The documentation trains a large model for six steps. The default model here
 * is tiny and knows no Pig Latin, so it takes more of them, at a higher rate.
 */
import { Datum, ModelInput, ServiceClient, type Tokenizer } from '../src/index';

const STEPS = 20;
const LEARNING_RATE = 5e-3;

// What is there to train?
const serviceClient = new ServiceClient();
console.log('Available models:');
const { supportedModels, device } = await serviceClient.getServerCapabilities();
for (const item of supportedModels) console.log(`- ${item.modelName}`);
console.log(`on ${device.kind}, ${device.adapter}\n`);

const baseModel = 'webtinker/pocket';
const trainingClient = await serviceClient.createLoraTrainingClient({ baseModel, rank: 32, seed: 1 });

// Create some training examples
const examples = [
  { input: 'banana split', output: 'anana-bay plit-say' },
  { input: 'quantum physics', output: 'uantum-qay ysics-phay' },
  { input: 'donut shop', output: 'onut-day op-shay' },
  { input: 'pickle jar', output: 'ickle-pay ar-jay' },
  { input: 'space exploration', output: 'ace-spay exploration-way' },
  { input: 'rubber duck', output: 'ubber-ray uck-day' },
  { input: 'coding wizard', output: 'oding-cay izard-way' },
];

// Get the tokenizer from the training client
const tokenizer = await trainingClient.getTokenizer();

// Convert examples into the format expected by the training client
function processExample(example: { input: string; output: string }, tokenizer: Tokenizer): Datum {
  const prompt = `English: ${example.input}\nPig Latin:`;

  const promptTokens = tokenizer.encode(prompt, { add_special_tokens: true });
  const promptWeights = promptTokens.map(() => 0);
  // Add a space before the output string, and finish with double newline
  const completionTokens = tokenizer.encode(` ${example.output}\n\n`, { add_special_tokens: false });
  const completionWeights = completionTokens.map(() => 1);

  const tokens = [...promptTokens, ...completionTokens];
  const weights = [...promptWeights, ...completionWeights];

  const inputTokens = tokens.slice(0, -1);
  const targetTokens = tokens.slice(1); // we predict the next token, so targets are shifted by one

  return new Datum({
    modelInput: ModelInput.fromInts(inputTokens),
    lossFnInputs: { weights: weights.slice(1), target_tokens: targetTokens },
  });
}

const processedExamples = examples.map((example) => processExample(example, tokenizer));

// Visualize the first example
const datum0 = processedExamples[0]!;
const repr = (id: number) => JSON.stringify(tokenizer.decode([id])).padEnd(20);
console.log(`${'Input'.padEnd(20)} ${'Target'.padEnd(20)} Weight`);
console.log('-'.repeat(50));
const targets = datum0.lossFnInputs['target_tokens']!.toArray();
const weights = datum0.lossFnInputs['weights']!.toArray();
datum0.modelInput.toInts().forEach((input, i) => {
  console.log(`${repr(input)} ${repr(targets[i]!)} ${weights[i]}`);
});
console.log();

// Train
const allWeights = processedExamples.flatMap((example) => example.lossFnInputs['weights']!.toArray());
const totalWeight = allWeights.reduce((sum, w) => sum + w, 0);
for (let step = 1; step <= STEPS; step++) {
  const fwdbwdFuture = trainingClient.forwardBackward(processedExamples, 'cross_entropy');
  const optimFuture = trainingClient.optimStep({ learningRate: LEARNING_RATE });

  // Wait for the results
  const fwdbwdResult = await fwdbwdFuture;
  await optimFuture;

  // The result holds the logprobs of all the targets: their weighted average is the loss per token.
  const logprobs = fwdbwdResult.lossFnOutputs.flatMap((output) => output['logprobs']!.toArray());
  const loss = -logprobs.reduce((sum, logprob, i) => sum + logprob * allWeights[i]!, 0) / totalWeight;
  console.log(`Step ${String(step).padStart(2)}  loss per token: ${loss.toFixed(4)}`);
}

// Sample from what was trained
const samplingClient = await trainingClient.saveWeightsAndGetSamplingClient();
const greedy = { maxTokens: 20, temperature: 0, stop: ['\n'] };

const prompt = ModelInput.fromInts(tokenizer.encode('English: coffee break\nPig Latin:'));
const result = await samplingClient.sample({ prompt, numSamples: 8, samplingParams: greedy });
console.log('\nResponses to “coffee break”, which it never saw:');
result.sequences.forEach((sequence, i) => {
  console.log(`${i}: ${JSON.stringify(tokenizer.decode(sequence.tokens))}`);
});

// One answer to each example it was trained on
console.log('\nWhat it was trained on:');
for (const { input, output } of examples) {
  const prompt = ModelInput.fromInts(tokenizer.encode(`English: ${input}\nPig Latin:`));
  const { sequences } = await samplingClient.sample({
    prompt,
    numSamples: 1,
    samplingParams: { ...greedy, maxTokens: 40 },
  });
  const answer = tokenizer.decode(sequences[0]!.tokens).trim();
  console.log(`${answer === output ? '✓' : '✗'} ${input} → ${answer}`);
}

await serviceClient.dispose();
