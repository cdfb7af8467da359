/** Every op and every program, on this browser's WebGPU and on ONNX Runtime, over random shapes, values and seeds. */
import { expect, test } from 'vitest';
import { failureText, runConformance, tableOf } from '../../src/conformance';

// half a minute on two idle cores, most of it compiling shaders; several times that on busy ones
test('WebGPU agrees with ONNX Runtime on every op and every program', { timeout: 300_000 }, async () => {
  const report = await runConformance();
  console.log(`${tableOf(report)}\n${report.verdict} ${report.cases} cases, ${report.seconds.toFixed(1)} s`);
  expect(report.subjects.flatMap(({ failures }) => failures.map(failureText))).toEqual([]);
  expect(report.passed).toBe(true);
  expect(report.cases).toBeGreaterThan(400);
  // what a page copies is what it shows
  expect(JSON.parse(JSON.stringify(report))).toEqual(report);
});
