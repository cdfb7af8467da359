/**
 * Size of the built library: the JavaScript files a browser loads, gzipped one by one, as a server sends them.
 * Left out is @huggingface/transformers (with onnxruntime-web in it), which loads only when an application asks
 * for a tokenizer, and @jax-js/jax, which applications bring themselves; every other dependency counts.
 */
import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { build, loadConfigFromFile } from 'vite';

const LEFT_OUT = [/^@huggingface\/transformers/, /^onnxruntime-/, /^@jax-js\/jax/];

/** Builds with the settings of `vite.lib.config.ts`; returns [file, gzipped bytes] of each script. */
async function scriptsOf(root, minify) {
  const outDir = await mkdtemp(join(tmpdir(), 'webtinker-size-'));
  try {
    const env = { command: 'build', mode: 'production' };
    const { config } = await loadConfigFromFile(env, join(root, 'vite.lib.config.ts'));
    config.build.rolldownOptions.external = LEFT_OUT;
    // what browsers load
    const { index, jax } = config.build.lib.entry;
    config.build.lib.entry = { index, jax };
    Object.assign(config.build, { outDir, minify, emptyOutDir: true, sourcemap: false });
    await build({ ...config, root, configFile: false, logLevel: 'warn' });
    const names = await readdir(outDir, { recursive: true });
    const scripts = names.filter((name) => name.endsWith('.js')).sort();
    return await Promise.all(
      scripts.map(async (name) => [name, gzipSync(await readFile(join(outDir, name))).length]),
    );
  } finally {
    await rm(outDir, { recursive: true, force: true });
  }
}

/** Reports a row per file as shipped, their sum, and the sum once an application's bundler has minified it. */
export async function measureSize(root, onRow) {
  const row = (subject, bytes) =>
    onRow({
      bench: 'size',
      device: 'build',
      subject,
      value: bytes / 1000,
      unit: 'KB gzipped',
      better: 'lower',
    });
  const sum = (scripts) => scripts.reduce((n, [, bytes]) => n + bytes, 0);
  const shipped = await scriptsOf(root, false);
  // without the content hash, so that rows of different builds compare
  for (const [name, bytes] of shipped) row(name.replace(/-[\w-]{8}\.js$/, '.js'), bytes);
  row('webtinker, as shipped', sum(shipped));
  row('webtinker, minified', sum(await scriptsOf(root, true)));
}
