/** Which kernels a trace is lowered to, by name. */
import type { Trace } from '../engine/trace';
import type { AdapterProfile, Dispatch } from '../kernels/op';

/** e.g. `matmul-tile TILE=32 A_DEPTH_FIRST=false` */
export function labelOf({ kernel, constants = {} }: Dispatch): string {
  const settings = Object.entries(constants).map(
    ([name, value]) => `${name}=${typeof value === 'object' ? value.f32 : value}`,
  );
  return [kernel.name, ...settings].join(' ');
}

/** A kernel without its constants. */
export const kernelName = (label: string): string => label.split(' ')[0]!;

const launchesOf = (trace: Trace, profile: AdapterProfile): Dispatch[] =>
  trace.nodes.flatMap(({ op, node }) => op.webgpu(node, profile));

/** The kernels of traces, each once. */
export const kernelsOf = (traces: readonly Trace[], profile: AdapterProfile): string[] => [
  ...new Set(traces.flatMap((trace) => launchesOf(trace, profile).map(labelOf))),
];

/** Equal keys: the same kernels in the same order. */
export const loweringKey = (traces: readonly Trace[], profile: AdapterProfile): string =>
  traces.map((trace) => launchesOf(trace, profile).map(labelOf).join()).join(';');

/** The kernels that write a result: an output or a state of one of the traces. */
export function writersOf(traces: readonly Trace[], result: string, profile: AdapterProfile): string[] {
  const writers = new Set<string>();
  for (const trace of traces) {
    const storage = (trace.outputs.get(result) ?? trace.states.get(result))?.storage;
    for (const launch of launchesOf(trace, profile)) {
      for (const [name, tensor] of Object.entries(launch.bind)) {
        const written = launch.kernel.bindings[name]?.access === 'read_write';
        if (written && tensor.storage === storage) writers.add(labelOf(launch));
      }
    }
  }
  return [...writers];
}
