/**
 * `npm start`: installs what is missing, serves the demo and opens it.
 *
 *   --no-open     print the address only
 *   --port N      another port than 5173
 */
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { ensureInstalled } from './ensure-installed.mjs';

const { values: options } = parseArgs({
  options: { 'no-open': { type: 'boolean', default: false }, port: { type: 'string', default: '5173' } },
});

ensureInstalled();
const { createServer } = await import('vite');
const server = await createServer({
  configFile: fileURLToPath(new URL('../demo/vite.config.ts', import.meta.url)),
  server: { port: Number(options.port) },
});
await server.listen();

console.log(`\n  webtinker demo: ${server.resolvedUrls.local[0]}\n  Ctrl+C ends it.\n`);
const { DISPLAY, WAYLAND_DISPLAY, CI } = process.env;
const desktop = process.platform !== 'linux' || DISPLAY || WAYLAND_DISPLAY;
if (desktop && !CI && !options['no-open']) server.openBrowser();
