/**
 * Runs one benchmark of bench/onnx in this process of Node, and prints each row as a JSON line. Started by
 * scripts/bench.mjs, so that each has memory of its own.
 *
 *   node scripts/bench-node.mjs NAME ROUNDS FILTER
 */
import { fileURLToPath } from 'node:url';
import { createServer } from 'vite';

const [name, rounds, filter = ''] = process.argv.slice(2);
const server = await createServer({
  root: fileURLToPath(new URL('..', import.meta.url)),
  configFile: false,
  logLevel: 'warn',
  appType: 'custom',
  server: { middlewareMode: true, hmr: false, watch: null, ws: false },
  optimizeDeps: { noDiscovery: true },
});
const { default: bench } = await server.ssrLoadModule(`/bench/onnx/${name}.bench.ts`);
await bench({
  device: `Node ${process.version}`,
  rounds: Number(rounds),
  filter,
  row: (bench, subject, value, unit, better) =>
    console.log(JSON.stringify({ bench, device: `Node ${process.version}`, subject, value, unit, better })),
  progress: (text) => process.stderr.write(`  ${text}\n`),
});
await server.close();
process.exit(0);
