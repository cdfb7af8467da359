/** Every op and every program, on this browser's WebGPU and on ONNX Runtime, over random shapes, values and seeds. */
import { expect, test } from 'vitest';
import { failureText, runConformance, tableOf } from '../../src/conformance';
import { LOSSES } from '../../src/kernels/loss/index';

const bodies = import.meta.glob<string>('/src/kernels/**/*.wgsl', {
  eager: true,
  query: '?raw',
  import: 'default',
});

/** The names of all kernels: the files with an entry point; the losses share one, and have their own names. */
const kernels = [
  ...Object.entries(bodies)
    .filter(([, code]) => code.includes('@compute'))
    .map(([path]) => path.split('/').at(-1)!.replace('.wgsl', ''))
    .filter((stem) => stem !== 'loss-map'),
  ...Object.values(LOSSES).map(({ op }) => op.name),
];

// most of the time goes into compiling shaders; the limit leaves room for busy machines
test('WebGPU agrees with ONNX Runtime on every op and every program', { timeout: 300_000 }, async () => {
  const report = await runConformance();
  console.log(`${tableOf(report)}\n${report.verdict} ${report.cases} cases, ${report.seconds.toFixed(1)} s`);
  expect(report.subjects.flatMap(({ failures }) => failures.map(failureText))).toEqual([]);
  expect(report.passed).toBe(true);
  expect(report.cases).toBeGreaterThan(400);
  // what a page copies is what it shows
  expect(JSON.parse(JSON.stringify(report))).toEqual(report);

  // on a software adapter: those that GPUs get among them. A GPU runs its own
  if (!report.adapter.software) return;
  const ran = report.subjects.flatMap((subject) => subject.kernels.map((kernel) => kernel.split(' ')[0]!));
  expect([...new Set(ran)].sort(), 'a kernel that no case reaches').toEqual([...kernels].sort());
});
