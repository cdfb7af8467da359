/**
 * Train, export the merged model as ONNX, load it with transformers.js, compare texts: `npm run example export-onnx [STEPS]`
 *
 * transformers.js reads the files straight from memory here. From a folder on a server or a disk it is the same call,
 * with `env.localModelPath` naming what the folder lies in.
 */
import { env, pipeline } from '@huggingface/transformers';
import wasm from 'onnxruntime-web/ort-wasm-simd-threaded.asyncify.wasm?url';
import { Datum, ModelInput, ServiceClient, type Tokenizer } from '../src/index';

const [steps = '12'] = new URLSearchParams(location.search).getAll('arg');
const PROMPT = 'English: banana split\nPig Latin:';
const MAX_TOKENS = 24;

function datumOf(prompt: string, answer: string, tokenizer: Tokenizer): Datum {
  const head = tokenizer.encode(prompt);
  const tokens = [...head, ...tokenizer.encode(answer, { add_special_tokens: false })];
  const weights = tokens.slice(1).map((_, i) => (i >= head.length - 1 ? 1 : 0));
  return new Datum({
    modelInput: ModelInput.fromInts(tokens.slice(0, -1)),
    lossFnInputs: { target_tokens: tokens.slice(1), weights },
  });
}

// Train
const service = new ServiceClient();
const training = await service.createLoraTrainingClient({ rank: 16, seed: 1 });
const tokenizer = await training.getTokenizer();
const datum = datumOf(PROMPT, ' anana-bay plit-say\n\n', tokenizer);
for (let step = 1; step <= Number(steps); step++) {
  const forwardBackward = training.forwardBackward([datum], 'cross_entropy');
  await training.optimStep({ learningRate: 5e-3 });
  console.log(`Step ${step}  loss ${(await forwardBackward).metrics['loss:sum']}`);
}

// Sample here: as long as the answer may be, at temperature 0
const sampler = await training.saveWeightsAndGetSamplingClient();
const { sequences } = await sampler.sample({
  prompt: ModelInput.fromInts(tokenizer.encode(PROMPT)),
  samplingParams: { maxTokens: MAX_TOKENS, temperature: 0 },
});
const ours = tokenizer.decode(sequences[0]!.tokens, { skip_special_tokens: true });

// Export: a graph with the adapter merged in, and its config and tokenizer
const { files, archive } = await sampler.exportOnnx({
  onProgress: ({ loaded, total }) => {
    if (loaded === total) console.log(`\nExported ${total} weights`);
  },
});
for (const [path, file] of files) console.log(`- ${path}, ${file.size} bytes`);
console.log(`As one .tar: ${archive.size} bytes\n`);

// Load: files from memory, ONNX Runtime from this server, nothing from anywhere else
env.allowLocalModels = true;
env.allowRemoteModels = false;
env.useBrowserCache = false;
env.useWasmCache = false;
env.localModelPath = 'exported:';
env.fetch = async (input: string | URL) => {
  const file = files.get(String(input).replace('exported:/pig-latin/', ''));
  return file ? new Response(file) : new Response(null, { status: 404 });
};
Object.assign(env.backends.onnx.wasm!, { wasmPaths: { wasm }, numThreads: 1 });
const generate = await pipeline('text-generation', 'pig-latin');
const [answer] = (await generate(PROMPT, {
  max_new_tokens: MAX_TOKENS,
  do_sample: false,
  return_full_text: false,
})) as { generated_text: string }[];

console.log(`webtinker:       ${JSON.stringify(ours)}`);
console.log(`transformers.js: ${JSON.stringify(answer!.generated_text)}`);
await service.dispose();
