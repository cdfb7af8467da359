import { playwright } from '@vitest/browser-playwright';
import { defineConfig } from 'vitest/config';
import { browserArgs, findBrowser } from './scripts/find-browser.mjs';

/** Chromium is looked for only when tests are about to run. */
function browserProject() {
  const executablePath = process.env.VITEST ? findBrowser() : undefined;
  return {
    provider: playwright({
      launchOptions: { ...(executablePath && { executablePath }), args: browserArgs() },
    }),
    enabled: true,
    headless: true,
    screenshotFailures: false,
    instances: [{ browser: 'chromium' as const }],
  };
}

/** Tests of the engine that hold whatever it computes on: they run on every kind of device. */
const EVERY_DEVICE = [
  'bad-input',
  'checkpoints',
  'decoding',
  'losses',
  'packing',
  'parity',
  'streaming',
  'topk',
].map((name) => `test/engine/${name}.test.ts`);

export default defineConfig({
  worker: { format: 'es' },
  server: {
    fs: { allow: ['.'] },
    // isolated, so that ONNX Runtime may use threads
    headers: {
      'Cross-Origin-Opener-Policy': 'same-origin',
      'Cross-Origin-Embedder-Policy': 'require-corp',
    },
  },
  // bundled at start: found later (in a worker, by a lazy import) they would reload the page
  optimizeDeps: {
    include: [
      'comlink',
      '@bufbuild/protobuf',
      '@bufbuild/protobuf/codegenv2',
      'idb',
      'modern-tar',
      '@huggingface/tokenizers',
      '@huggingface/transformers',
      '@jax-js/jax',
    ],
  },
  test: {
    projects: [
      {
        extends: true,
        test: {
          name: 'browser',
          include: ['test/**/*.test.ts'],
          exclude: ['test/node/**'],
          testTimeout: 120_000,
          hookTimeout: 120_000,
          // one page at a time: the software adapter already uses every core
          fileParallelism: false,
          browser: browserProject(),
          provide: { device: 'webgpu' },
          // the projects run one after the other: each wants every core
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: 'wasm',
          include: EVERY_DEVICE,
          testTimeout: 120_000,
          hookTimeout: 120_000,
          fileParallelism: false,
          browser: browserProject(),
          provide: { device: 'wasm' },
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        test: {
          name: 'node',
          include: ['test/node/**/*.test.ts', ...EVERY_DEVICE],
          provide: { device: 'cpu' },
          environment: 'node',
          testTimeout: 240_000,
          hookTimeout: 120_000,
          fileParallelism: false,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});
