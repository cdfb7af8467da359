/** Runs one benchmark in this page; `scripts/bench.mjs` opens the page and prints what it reports. */
import type { Bench, BenchContext, Row } from './harness';

declare global {
  interface Window {
    /** provided by `scripts/bench.mjs` */
    benchRow?: (row: Row) => Promise<void>;
    benchProgress?: (text: string) => Promise<void>;
    /** set when the page is done; empty = success */
    benchDone?: string;
  }
}

const BENCHES: Readonly<Record<string, () => Promise<{ default: Bench }>>> = {
  matmul: () => import('./matmul.bench'),
  'train-step': () => import('./train-step.bench'),
  'first-step': () => import('./first-step.bench'),
  sample: () => import('./sample.bench'),
  'wasm-step': () => import('./onnx/wasm-step.bench'),
  profile: () => import('./profile.bench'),
};

async function deviceName(): Promise<string> {
  const adapter = await navigator.gpu?.requestAdapter({ powerPreference: 'high-performance' });
  if (!adapter) throw new Error('this browser offers no WebGPU adapter');
  const { vendor, architecture } = adapter.info;
  return [vendor, architecture].filter(Boolean).join(' ') || 'unknown adapter';
}

async function main(): Promise<void> {
  const query = new URLSearchParams(location.search);
  const name = query.get('bench') ?? '';
  const load = BENCHES[name];
  if (!load) throw new Error(`no benchmark '${name}'; there are: ${Object.keys(BENCHES).join(', ')}`);
  const device = await deviceName();
  const pending: Promise<void>[] = [];
  const context: BenchContext = {
    device,
    rounds: Number(query.get('rounds') ?? 7),
    filter: query.get('filter') ?? '',
    row: (bench, subject, value, unit, better) => {
      const row: Row = { bench, device, subject, value, unit, better };
      const sent = window.benchRow?.(row);
      if (sent) pending.push(sent);
      else document.body.append(JSON.stringify(row), document.createElement('br'));
    },
    progress: (text) => {
      const sent = window.benchProgress?.(text);
      if (sent) pending.push(sent);
    },
  };
  await (await load()).default(context);
  await Promise.all(pending);
}

main().then(
  () => (window.benchDone = ''),
  (error: unknown) =>
    (window.benchDone = error instanceof Error ? (error.stack ?? error.message) : String(error)),
);
