/**
 * Size of the built library: every JavaScript file of the browser build, gzipped one by one, as a server sends
 * them. Left out are the two externals: @huggingface/transformers, which an application loads only when it asks
 * for a tokenizer, and onnxruntime-web, which comes with that.
 */
import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { build, loadConfigFromFile } from 'vite';

const LEFT_OUT = [/^@huggingface\/transformers/, /^onnxruntime-/];
const EXTERNAL = /(?:from|import)\s*\(?\s*["'`]([^"'`./][^"'`]*)["'`]/g;

/** Reports one row per file and the sum, in KB of 1000 bytes. */
export async function measureSize(root, onRow) {
  const outDir = await mkdtemp(join(tmpdir(), 'webtinker-size-'));
  try {
    const env = { command: 'build', mode: 'production' };
    const { config } = await loadConfigFromFile(env, join(root, 'vite.lib.config.ts'));
    // other dependencies are part of what an application loads, so they count
    config.build.rolldownOptions.external = LEFT_OUT;
    Object.assign(config.build, { outDir, emptyOutDir: true, sourcemap: false });
    await build({ ...config, root, configFile: false, logLevel: 'warn' });
    const names = await readdir(outDir, { recursive: true });
    // node.js is what Node loads instead of index.js
    const scripts = names.filter((name) => name.endsWith('.js') && name !== 'node.js').sort();
    const row = (subject, value, unit) =>
      onRow({ bench: 'size', device: 'build', subject, value, unit, better: 'lower' });
    const externals = new Set();
    let total = 0;
    for (const name of scripts) {
      const source = await readFile(join(outDir, name));
      for (const [, specifier] of source.toString().matchAll(EXTERNAL)) externals.add(specifier);
      const bytes = gzipSync(source, { level: 9 }).length;
      total += bytes;
      // without the content hash, so that rows of different builds compare
      row(name.replace(/-[\w-]{8}\.js$/, '.js'), bytes / 1000, 'KB gzipped');
    }
    const without = externals.size > 0 ? ` (without ${[...externals].sort().join(', ')})` : '';
    row(`webtinker, all JavaScript${without}`, total / 1000, 'KB gzipped');
  } finally {
    await rm(outDir, { recursive: true, force: true });
  }
}
