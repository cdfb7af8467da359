/** Where a training step spends its time, kernel by kernel; printed on stderr. */
import { openContext } from '../src/engine/devices/webgpu/context';
import { adapterLayout } from '../src/engine/program/adapter';
import { optimizerTrace, trainTrace } from '../src/engine/program/steps';
import type { Trace } from '../src/engine/trace';
import { parseConfig } from '../src/models/config';
import { interleave, median, type Bench } from './harness';
import { compileTimes, profilePlan, profileTable } from './profile';
import { StateBuffers, bindTrace, packedInputs } from './step-plan';
import { BATCH, CONFIG, RANK, TOKENS, randomWeights } from './tiny-llama';

const bench: Bench = async (context) => {
  const gpu = await openContext();
  const config = parseConfig(CONFIG, 'bench model');
  const adapter = adapterLayout(config, { rank: RANK, trainAttn: true, trainMlp: true, trainUnembed: true });
  const states = new StateBuffers(gpu, config, randomWeights());
  const T = BATCH * TOKENS;
  // learning rate 0: the weights stay as they are however often a launch is repeated
  const adam = { lr: 0, beta1: 0.9, beta2: 0.95, eps: 1e-12, weight_decay: 0, clip: 0 };
  const values = {
    T,
    C: T,
    has_saved: 0,
    last: 1,
    ...adam,
    one_minus_beta1: 0.1,
    one_minus_beta2: 0.05,
    bias1: 0.1,
    bias2: 0.05,
  };
  const traces: Readonly<Record<string, () => Trace>> = {
    'forward-backward': () => trainTrace({ config, adapter }, 'cross_entropy'),
    'optim-step': () => optimizerTrace(adapter),
  };
  for (const [name, make] of Object.entries(traces)) {
    if (!name.includes(context.filter)) continue;
    const trace = make();
    const capacity = { T, C: T };
    const compiled = await compileTimes(gpu, trace);
    const serial = compiled.reduce((n, [, ms]) => n + ms, 0);
    context.progress(`${name}: ${compiled.length} pipelines, one after the other ${serial.toFixed(0)} ms`);
    for (const [label, ms] of compiled) context.progress(`${ms.toFixed(1).padStart(8)} ms  ${label}`);
    const bound = await bindTrace(states, trace, capacity);
    const inputs = packedInputs(trace, config.vocabSize, BATCH, TOKENS);
    const run = async (): Promise<void> => {
      await bound.run({ values, inputs });
      await gpu.device.queue.onSubmittedWorkDone();
    };
    const { whole } = await interleave({ whole: run }, Math.min(3, context.rounds));
    const rows = await profilePlan(bound, values);
    context.progress(`whole plan in one submit: ${median(whole).toFixed(1)} ms\n${profileTable(name, rows)}`);
    const sum = rows.reduce((n, r) => n + r.total, 0);
    const byKernel = new Map<string, number>();
    for (const r of rows) {
      const kernel = r.label.split('  ')[0]!;
      byKernel.set(kernel, (byKernel.get(kernel) ?? 0) + r.total);
    }
    for (const [kernel, ms] of [...byKernel].sort((a, b) => b[1] - a[1])) {
      context.row(`profile ${name}`, kernel, (100 * ms) / sum, '% of the time', 'lower');
    }
    bound.plan.dispose();
  }
};

export default bench;
