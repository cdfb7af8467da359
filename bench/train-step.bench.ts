/** One LoRA training step of a 4-layer Llama, 8 × 128 tokens, beside jax-js in the same page. */
import { defaultDevice, init } from '@jax-js/jax';
import { census, installCensus } from './gpu-census';
import { seeded, timed, uniformArray, type Bench } from './harness';
import { JaxLlama } from './jax-llama';
import { BATCH, CONFIG, LINEARS, RANK, TOKENS, randomTokens, randomWeights, type HostWeight } from './tiny-llama';

function randomLora(): Map<string, { a: HostWeight; b: HostWeight }> {
  const next = seeded(3);
  const lora = new Map<string, { a: HostWeight; b: HostWeight }>();
  const pair = (name: string, n: number, k: number): void => {
    lora.set(name, {
      a: { shape: [RANK, k], data: uniformArray(RANK * k, 1 / Math.sqrt(k), next) },
      b: { shape: [n, RANK], data: new Float32Array(n * RANK) },
    });
  };
  for (let layer = 0; layer < CONFIG.num_hidden_layers; layer++) {
    for (const [name, [n, k]] of Object.entries(LINEARS)) pair(`model.layers.${layer}.${name}`, n, k);
  }
  pair('lm_head', CONFIG.vocab_size, CONFIG.hidden_size);
  return lora;
}

const trainStep: Bench = async (context) => {
  installCensus();
  const available = await init('webgpu');
  if (!available.includes('webgpu')) throw new Error('jax-js found no WebGPU');
  defaultDevice('webgpu');
  for (const form of ['separate', 'merged'] as const) {
    const jax = new JaxLlama(randomWeights(), randomLora(), randomTokens(), form);
    for (let i = 0; i < 4; i++) {
      const { result: ms, counts } = await census(() => timed(async () => context.progress(String((await jax.step()) / (BATCH * TOKENS)))));
      context.progress(`${form} ${ms.toFixed(0)} ms ${JSON.stringify(counts)}`);
    }
    jax.dispose();
  }
};

export default trainStep;
