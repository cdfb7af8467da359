/**
 * `npm run build`: the library with its types into dist/, and a check that what
 * a page or a Node program loads of its JavaScript stays small.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'vite';

/**
 * Most gzipped JavaScript of the library that a platform loads to train and sample, bytes. What loads on demand is not
 * in it: ONNX Runtime and transformers.js, which are not ours, and exports.
 */
const LIMITS = { browser: 160_000, node: 190_000 };

/** Where each platform begins to load. */
const ENTRIES = { browser: ['index.js', 'jax.js'], node: ['node.js', 'jax.js', 'engine-worker.js'] };

const root = fileURLToPath(new URL('..', import.meta.url));
const dist = `${root}dist`;

await build({ root, configFile: `${root}vite.lib.config.ts`, logLevel: 'warn' });
execFileSync(
  process.execPath,
  [`${root}node_modules/typescript/bin/tsc`, '-p', `${root}tsconfig.build.json`],
  {
    stdio: 'inherit',
  },
);

const files = readdirSync(dist, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile())
  .map((entry) => `${entry.parentPath}/${entry.name}`);

// Node's own module resolution wants whole file names
for (const file of files.filter((f) => f.endsWith('.d.ts'))) {
  const text = readFileSync(file, 'utf8');
  writeFileSync(file, text.replace(/((?:from|import\()\s*['"])(\.[^'"]+)(?=['"])/g, '$1$2.js'));
}

// the map of ONNX Runtime's script stays behind, and servers in development would miss it
for (const file of files.filter((f) => f.endsWith('.mjs'))) {
  writeFileSync(file, readFileSync(file, 'utf8').replace(/^\/\/# sourceMappingURL=.*$/m, ''));
}

for (const file of files.filter((f) => !f.endsWith('.d.ts'))) {
  const bytes = readFileSync(file);
  const gzipped = gzipSync(bytes).length;
  const name = file.slice(root.length).padEnd(48);
  console.log(`${name} ${String(bytes.length).padStart(9)} bytes  ${String(gzipped).padStart(9)} gzipped`);
}

/** Adds a script of ours and all that it imports or starts, but for what it imports when asked to. */
function collect(file, platform, found) {
  // the worker of pages and what it imports lie there
  const others = platform === 'node' && file.includes(`${sep}assets${sep}`);
  if (others || found.has(file)) return;
  found.add(file);
  const code = readFileSync(file, 'utf8').replaceAll(/\bimport\(["'][^"']+["']\)/g, '');
  for (const [, path] of code.matchAll(/["'](\.{1,2}\/[^"']+\.js)["']/g)) {
    const next = resolve(dirname(file), path);
    if (existsSync(next)) collect(next, platform, found);
  }
}

for (const [platform, entries] of Object.entries(ENTRIES)) {
  const found = new Set();
  for (const entry of entries) collect(resolve(dist, entry), platform, found);
  let total = 0;
  for (const file of found) total += gzipSync(readFileSync(file)).length;
  console.log(`JavaScript for ${platform}: ${total} bytes gzipped, of at most ${LIMITS[platform]}`);
  if (total > LIMITS[platform]) {
    console.error('The JavaScript of the library has grown over its limit.');
    process.exit(1);
  }
}
