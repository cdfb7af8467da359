import { defineConfig, type Plugin } from 'vite';

/**
 * vite writes the address of an emitted file as a URL inside a URL, which the
 * bundlers of those who use this library do not recognise. They know exactly
 * `new URL('./file', import.meta.url)`.
 */
function plainUrls(): Plugin {
  const nested =
    /new URL\(\s*(?:\/\*[^*]*\*\/\s*)?new URL\("([^"]+)", import\.meta\.url\)\.href,\s*(?:\/\*[^*]*\*\/\s*)?"" \+ import\.meta\.url\s*\)/g;
  const plain = (code: string) => code.replace(nested, 'new URL("./$1", import.meta.url)');
  return {
    name: 'plain-urls',
    enforce: 'post',
    generateBundle(_, bundle) {
      for (const file of Object.values(bundle)) {
        if (!file.fileName.endsWith('.js')) continue;
        if (file.type === 'chunk') file.code = plain(file.code);
        else file.source = plain(file.source.toString());
      }
    },
  };
}

/** Doc comments are in the types beside it. */
const output = {
  comments: { jsdoc: false },
  // as the worker's are named, so that both builds write the same file once
  assetFileNames: 'assets/[name]-[hash][extname]',
};

/** Left to the user's node_modules: what is large, what is native, and what they may have too. */
const external = [
  /^node:/,
  /^@huggingface\/transformers/,
  /^onnxruntime-/,
  'comlink',
  'webgpu',
  '@jax-js/jax',
];

/**
 * The library: one ES module for browsers and one for Node, the engine's worker
 * for either, and the default model as files beside them.
 */
export default defineConfig({
  base: './',
  publicDir: false,
  plugins: [plainUrls()],
  worker: { format: 'es', rolldownOptions: { output } },
  build: {
    target: 'es2022',
    // readable, and the bundlers of those who use it recognise the worker
    minify: false,
    lib: {
      entry: {
        index: 'src/index.ts',
        node: 'src/node.ts',
        'engine-worker': 'src/node/worker.ts',
        jax: 'src/jax.ts',
        conformance: 'src/conformance.ts',
      },
      formats: ['es'],
    },
    rolldownOptions: { external, output },
  },
});
