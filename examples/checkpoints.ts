/**
 * Save, "restart", resume exactly where it was; list, download and delete: `npm run example checkpoints [STEPS]`
 *
 * In a browser checkpoints live in the site's private file system (OPFS), where they outlast the page.
 */
import { Datum, ModelInput, ServiceClient, type Tokenizer, type TrainingClient } from '../src/index';

const [steps = '5'] = new URLSearchParams(location.search).getAll('arg');
const STEPS = Number(steps); // before the save, and again after it
const LEARNING_RATE = 5e-3;

function datumOf(english: string, pigLatin: string, tokenizer: Tokenizer): Datum {
  const prompt = tokenizer.encode(`English: ${english}\nPig Latin:`);
  const answer = tokenizer.encode(` ${pigLatin}\n\n`, { add_special_tokens: false });
  const tokens = [...prompt, ...answer];
  const weights = [...prompt.map(() => 0), ...answer.map(() => 1)];
  return new Datum({
    modelInput: ModelInput.fromInts(tokens.slice(0, -1)),
    lossFnInputs: { target_tokens: tokens.slice(1), weights: weights.slice(1) },
  });
}

/** One optimizer step; returns the loss before it. */
async function step(trainingClient: TrainingClient, data: readonly Datum[]): Promise<number> {
  const forwardBackward = trainingClient.forwardBackward(data, 'cross_entropy');
  const optim = trainingClient.optimStep({ learningRate: LEARNING_RATE });
  await optim;
  return (await forwardBackward).metrics['loss:sum']!;
}

// Train, save, and train on: what comes after the save is what a resumed run has to repeat
let service = new ServiceClient();
let training = await service.createLoraTrainingClient({ rank: 16, seed: 1 });
const tokenizer = await training.getTokenizer();
const data = [
  datumOf('banana split', 'anana-bay plit-say', tokenizer),
  datumOf('quantum physics', 'uantum-qay ysics-phay', tokenizer),
];
for (let i = 1; i <= STEPS; i++) console.log(`Step ${i}  loss ${await step(training, data)}`);

const saved = training.saveState(`step-${STEPS}`, { ttlSeconds: 24 * 3600 }); // queued: training goes on meanwhile
const expected: number[] = [];
for (let i = 1; i <= STEPS; i++) expected.push(await step(training, data));
const { path } = await saved;
const forSampling = await training.saveWeightsForSampler(`step-${2 * STEPS}`);
console.log(`\nSaved ${path}`);

// "Restart": the engine, its worker and everything in memory end here
await service.dispose();
console.log('Disposed of the engine; starting another\n');
service = new ServiceClient();

// Resume with the optimizer's state: every following loss is the same, to the last bit
training = await service.createTrainingClientFromStateWithOptimizer(path);
for (let i = 0; i < STEPS; i++) {
  const loss = await step(training, data);
  const same = Object.is(loss, expected[i]) ? 'exactly as without the restart' : `but was ${expected[i]}`;
  console.log(`Step ${STEPS + i + 1}  loss ${loss}  ${same}`);
}

// Without it the adapter is the same and Adam starts over: the first loss agrees, later ones do not
const fresh = await service.createTrainingClientFromState(path);
const [first, second] = [await step(fresh, data), await step(fresh, data)];
console.log(`\nWithout the optimizer's state: ${first}, then ${second}`);

// Sample from what was saved for it, as it comes
const sampler = await service.createSamplingClient({ modelPath: forSampling.path });
const prompt = ModelInput.fromInts(tokenizer.encode('English: banana split\nPig Latin:'));
const answer: number[] = [];
const samplingParams = { maxTokens: 24, temperature: 0, stop: ['\n'] };
for await (const { tokens } of sampler.stream({ prompt, samplingParams })) answer.push(...tokens);
console.log(`Sampled from ${forSampling.path}: ${JSON.stringify(tokenizer.decode(answer))}`);

// What is kept
const rest = service.createRestClient();
const run = await rest.getTrainingRunByTinkerPath(path);
console.log(`\nRun ${run.trainingRunId} on ${run.baseModel}, rank ${run.loraRank}:`);
const { checkpoints } = await rest.listCheckpoints(run.trainingRunId);
for (const { checkpointId, checkpointType, sizeBytes, expiresAt } of checkpoints) {
  const until = expiresAt ? `until ${expiresAt.toISOString()}` : 'for good';
  console.log(`- ${checkpointId} (${checkpointType}), ${sizeBytes} bytes, kept ${until}`);
}

// Download: a .tar of the files that Python's peft loads
const { url } = await rest.getCheckpointArchiveUrlFromTinkerPath(path);
const archive = await (await fetch(url)).blob();
console.log(`Its archive has ${archive.size} bytes`);

for (const { tinkerPath } of checkpoints) await rest.deleteCheckpointFromTinkerPath(tinkerPath);
const left = await rest.listCheckpoints(run.trainingRunId);
console.log(`Deleted; ${left.checkpoints.length} checkpoints left`);

await service.dispose();
