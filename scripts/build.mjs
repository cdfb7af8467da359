/**
 * `npm run build`: the library with its types into dist/, and a check that its
 * JavaScript stays small.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'vite';

/** Most gzipped JavaScript of the library, bytes (transformers.js, which loads on demand, is not in it). */
const LIMIT = 150_000;

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

let total = 0;
for (const file of files.filter((f) => !f.endsWith('.d.ts'))) {
  const bytes = readFileSync(file);
  const gzipped = gzipSync(bytes).length;
  if (file.endsWith('.js')) total += gzipped;
  const name = file.slice(root.length).padEnd(48);
  console.log(`${name} ${String(bytes.length).padStart(9)} bytes  ${String(gzipped).padStart(9)} gzipped`);
}
console.log(`JavaScript: ${total} bytes gzipped, of at most ${LIMIT}`);
if (total > LIMIT) {
  console.error('The JavaScript of the library has grown over its limit.');
  process.exit(1);
}
