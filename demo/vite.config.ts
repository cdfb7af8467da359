import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';

/** With these the page is cross-origin isolated, and WebAssembly may use threads there. */
const headers = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
};

/** The demo: served by `npm start`, built to static files by `npm run build:demo`. */
export default defineConfig({
  root: fileURLToPath(new URL('.', import.meta.url)),
  // relative, so that the files work under any path
  base: './',
  cacheDir: '../node_modules/.vite-demo',
  worker: { format: 'es' },
  // found at once, the worker's too: a package discovered late makes vite reload the page
  optimizeDeps: {
    include: [
      'comlink',
      '@huggingface/tokenizers',
      '@huggingface/transformers',
      'idb',
      'modern-tar',
      'uplot',
    ],
  },
  server: { fs: { allow: ['..'] }, headers },
  preview: { headers },
  build: {
    outDir: '../dist-demo',
    emptyOutDir: true,
    target: 'es2022',
    chunkSizeWarningLimit: 700,
    rolldownOptions: {
      input: ['index.html', 'self-test.html'].map((page) => fileURLToPath(new URL(page, import.meta.url))),
    },
  },
});
