/** A driver that gets one kernel wrong is found, and the kernel named. */
import { afterEach, expect, test, vi } from 'vitest';
import { runConformance } from '../../src/conformance';
import { matmul } from '../../src/kernels/matmul/matmul';
import type { Value } from '../../src/onnx/graph';

/** The driver compiles one kernel as if its source were another. */
function miscompile(kernel: string, right: string, wrong: string): void {
  // eslint-disable-next-line @typescript-eslint/unbound-method -- called on the device it was asked of
  const original = GPUDevice.prototype.createShaderModule;
  vi.spyOn(GPUDevice.prototype, 'createShaderModule').mockImplementation(function (
    this: GPUDevice,
    descriptor,
  ) {
    const { label, code } = descriptor;
    if (label !== kernel) return original.call(this, descriptor);
    const changed = code.replace(right, wrong);
    if (changed === code) throw new Error(`${kernel} does not contain ${right}`);
    return original.call(this, { ...descriptor, code: changed });
  });
}

afterEach(() => {
  vi.restoreAllMocks();
});

const BROKEN = [
  // off by 1e-5: no loss curve shows it
  ['matmul', 'matmul-quad', '] = value;', '] = value * 1.00001;'],
  ['rmsnorm-backward', 'rmsnorm-backward', 'scale * scale * total', 'scale * total'],
  // only gradients of queries, only on GPUs
  ['attention-backward', 'attention-tile-dq', 'params.scale', '(params.scale * 0.9999)'],
  ['lora-gradients', 'lora-accumulate-tile', '+= partial[lane]', '+= partial[lane] * 1.00005'],
  ['sample', 'sample', 'draw.x >> 8u', 'draw.y >> 8u'],
  ['topk', 'topk-group', 'columns[other] < columns[lane]', 'columns[other] > columns[lane]'],
  ['ppo', 'ppo', 'ratio >= low && ratio <= high', 'ratio > low && ratio < high'],
] as const;

for (const [op, kernel, right, wrong] of BROKEN) {
  test(`${kernel} with \`${wrong}\` in place of \`${right}\` is found and named`, async () => {
    miscompile(kernel, right, wrong);
    // those of attention are slow to compile
    const cases = op.startsWith('attention') ? 2 : 8;
    const report = await runConformance({ only: [op, 'embedding'], cases });
    expect(report.passed).toBe(false);
    const [embedding, broken] = ['embedding', op].map((name) =>
      report.subjects.find((s) => s.name === name)!,
    );
    expect(embedding!.failures).toEqual([]);
    expect(broken!.failures.length).toBeGreaterThan(0);
    for (const { kernels } of broken!.failures) {
      expect(kernels.some((name) => name.split(' ')[0] === kernel)).toBe(true);
    }
    expect(report.verdict).toContain(kernel);
    // the case alone, from what the report says of it
    const first = broken!.failures[0]!;
    const again = await runConformance({ seed: first.seed, only: [first.case] });
    expect(again.cases).toBe(1);
    expect(again.subjects[0]!.failures[0]).toEqual(first);
  });
}

test('an oracle that is wrong is told from a kernel that is', async () => {
  const op = matmul as { onnx: NonNullable<typeof matmul.onnx> };
  const right = op.onnx.bind(op);
  vi.spyOn(op, 'onnx').mockImplementation((node, on) => {
    const y = right(node, on).y as Value;
    return { y: on.graph.node('Mul', [y, on.graph.f32(1.001)]) };
  });
  const report = await runConformance({ only: ['matmul'], cases: 8 });
  expect(report.passed).toBe(false);
  const agreed = report.subjects[0]!.failures.filter(({ agrees }) => agrees !== undefined);
  expect(agreed.length).toBeGreaterThan(0);
  expect(report.verdict).toMatch(
    /^onnxruntime-web .* stands alone on .* with matmul: kernels that share no code agree/,
  );
});

test('a kernel that does not compile is a failure of its op, not of the run', async () => {
  miscompile('swiglu', 'act[i]', 'act[i');
  const { subjects, verdict } = await runConformance({ only: ['swiglu', 'embedding'], cases: 2 });
  expect(subjects.map(({ name, failures }) => [name, failures.length > 0])).toEqual([
    ['embedding', false],
    ['swiglu', true],
  ]);
  expect(subjects[1]!.failures[0]!.message).toMatch(/did not compile/);
  expect(verdict).toMatch(/1 kernel is wrong.*swiglu/);
});

test('a GPU that is lost ends the run, which says where', async () => {
  const devices: GPUDevice[] = [];
  // eslint-disable-next-line @typescript-eslint/unbound-method -- called on the adapter it was asked of
  const original = GPUAdapter.prototype.requestDevice;
  vi.spyOn(GPUAdapter.prototype, 'requestDevice').mockImplementation(async function (
    this: GPUAdapter,
    descriptor,
  ) {
    devices.push(await original.call(this, descriptor));
    return devices.at(-1)!;
  });
  const report = await runConformance({
    cases: 4,
    onProgress: ({ subject }) => subject.name === 'rmsnorm' && devices[0]!.destroy(),
  });
  expect(report).toMatchObject({ passed: false, ended: expect.stringMatching(/GPU was lost/) as string });
  expect(report.verdict).toMatch(/^The run ended at rmsnorm, because the GPU was lost/);
  expect(report.cases).toBeLessThan(10);
});

test('what is asked for must exist, and a signal ends the run', async () => {
  await expect(runConformance({ only: ['matmull'] })).rejects.toThrow(/no op or program 'matmull'/);
  const gone = new AbortController();
  const run = runConformance({ signal: gone.signal, onProgress: () => gone.abort(new Error('enough')) });
  await expect(run).rejects.toThrow('enough');
});
