/** Where the time of a plan goes: every launch timed by itself and grouped by kernel and shapes. */
import { newCounters } from '../src/engine/devices/webgpu/counters';
import { PipelineCache } from '../src/engine/devices/webgpu/pipelines';
import type { BoundPlan, GpuContext } from '../src/engine/devices/webgpu/plan';
import type { Trace } from '../src/engine/trace';
import { sizeOf, type Dispatch, type RunValues } from '../src/kernels/op';
import { timed } from './harness';

/** Bytes of a launch's uniform parameters in the plan's arena. */
const UNIFORM_SLOT = 256;

export interface ProfileRow {
  /** kernel, and the shapes of what it binds */
  readonly label: string;
  /** launches in one run of the plan */
  readonly launches: number;
  /** milliseconds of one launch */
  readonly each: number;
  /** milliseconds of all launches of one run */
  readonly total: number;
}

function labelOf({ kernel, bind }: Dispatch, values: RunValues): string {
  const shapes = Object.entries(bind).map(
    ([name, t]) => `${name}(${t.shape.map((size) => sizeOf(size, values)).join('×')})`,
  );
  return `${kernel.name}  ${shapes.join(' ')}`;
}

/**
 * Times each launch of a bound plan that has run at least once with `values` (so that its uniform parameters
 * are on the GPU). A launch is repeated until it took `budget` milliseconds; equal launches are timed once.
 * Needs no timestamp queries, which some adapters lack or round. Temporaries hold other data afterwards.
 */
export async function profilePlan(bound: BoundPlan, values: RunValues, budget = 20): Promise<ProfileRow[]> {
  const { plan, states } = bound;
  const { device } = plan.context;
  const bindGroup = (d: Dispatch, i: number): GPUBindGroup => {
    const entries: GPUBindGroupEntry[] = Object.keys(d.kernel.bindings).map((name, binding) => {
      const t = d.bind[name]!;
      const elements = t.shape.reduce<number>((n, size) => n * sizeOf(size, plan.capacity), 1);
      const size = Math.ceil(Math.max(1, elements) / 4) * 16;
      return { binding, resource: { buffer: plan.buffer(t, states), offset: 4 * t.offset, size } };
    });
    if (Object.keys(d.kernel.params).length > 0) {
      const resource = { buffer: plan.uniforms, offset: UNIFORM_SLOT * i, size: UNIFORM_SLOT };
      entries.push({ binding: entries.length, resource });
    }
    return device.createBindGroup({ layout: plan.pipelines[i]!.getBindGroupLayout(0), entries });
  };
  const time = (i: number, group: GPUBindGroup, repeat: number): Promise<number> =>
    timed(() => {
      const encoder = device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      pass.setPipeline(plan.pipelines[i]!);
      pass.setBindGroup(0, group);
      const grid = plan.dispatches[i]!.grid(values);
      for (let r = 0; r < repeat; r++) pass.dispatchWorkgroups(...grid);
      pass.end();
      device.queue.submit([encoder.finish()]);
      return device.queue.onSubmittedWorkDone();
    });

  const groups = new Map<string, number[]>();
  plan.dispatches.forEach((d, i) => {
    const [x, y, z] = d.grid(values);
    if (x * y * z === 0) return;
    const label = labelOf(d, values);
    groups.set(label, [...(groups.get(label) ?? []), i]);
  });
  const rows: ProfileRow[] = [];
  for (const [label, launches] of groups) {
    const i = launches[0]!;
    const group = bindGroup(plan.dispatches[i]!, i);
    const once = await time(i, group, 1);
    const repeat = Math.max(2, Math.ceil(budget / Math.max(once, 0.05)));
    const each = (await time(i, group, repeat)) / repeat;
    rows.push({ label, launches: launches.length, each, total: each * launches.length });
  }
  return rows.sort((a, b) => b.total - a.total);
}

/** The profile as a table, largest share first. */
export function profileTable(title: string, rows: readonly ProfileRow[]): string {
  const sum = rows.reduce((n, r) => n + r.total, 0);
  const launches = rows.reduce((n, r) => n + r.launches, 0);
  const lines = rows.map(
    (r) =>
      `${((100 * r.total) / sum).toFixed(1).padStart(5)} %  ${r.total.toFixed(2).padStart(8)} ms = ` +
      `${String(r.launches).padStart(3)} × ${r.each.toFixed(3).padStart(7)} ms  ${r.label}`,
  );
  return [`${title}: ${launches} launches, ${sum.toFixed(1)} ms in all`, ...lines].join('\n');
}

/**
 * Milliseconds to compile each pipeline of a trace, one after the other, slowest first. Means something only in a
 * fresh browser, whose shader cache is empty.
 */
export async function compileTimes(gpu: GpuContext, trace: Trace): Promise<[label: string, ms: number][]> {
  const pipelines = new PipelineCache(gpu.device, newCounters());
  const times = new Map<string, number>();
  for (const { kernel, constants } of trace.nodes.flatMap(({ op, node }) => op.webgpu(node, gpu.profile))) {
    const label = `${kernel.name}  ${JSON.stringify(constants ?? {})}`;
    if (!times.has(label)) times.set(label, await timed(() => pipelines.get(kernel, constants)));
  }
  return [...times].sort((a, b) => b[1] - a[1]);
}
