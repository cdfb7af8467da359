import { defineConfig } from 'vite';

/**
 * The library: one ES module for browsers and one for Node, the engine's
 * worker, and the default model as files beside them. Not vite's library mode,
 * which would put the model into the script as text.
 */
export default defineConfig({
  base: './',
  publicDir: false,
  worker: { format: 'es' },
  build: {
    outDir: 'dist',
    target: 'es2022',
    sourcemap: true,
    assetsInlineLimit: 0,
    modulePreload: false,
    rolldownOptions: {
      input: { index: 'src/index.ts', node: 'src/node.ts' },
      preserveEntrySignatures: 'strict',
      external: [/^@huggingface\/transformers/],
      output: { entryFileNames: '[name].js' },
    },
  },
});
