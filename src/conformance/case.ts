/** One thing to run on two devices and compare. */
import type { Buffers, Device, DeviceBuffer, Plan } from '../engine/devices/device';
import { Trace } from '../engine/trace';
import type { DType, HostArray, Op, RunValues, Size, TensorRef, Tensors } from '../kernels/op';
import type { Check, Results } from './measure';
import type { Random } from './random';

/** A value of a report: plain data. */
export type Plain = string | number | boolean | null | readonly Plain[] | { readonly [key: string]: Plain };

export interface Case {
  /** sizes, attributes and what is odd about it, for the report */
  readonly about: Readonly<Record<string, Plain>>;
  /** what it runs on a device that holds merged weights: says which kernels take part */
  readonly traces: readonly Trace[];
  run(device: Device): Promise<Results>;
  /** by name of the result; results without a check are not compared */
  readonly checks: Readonly<Record<string, Check>>;
}

/** An op or a program that is checked. */
export interface Subject {
  readonly kind: 'op' | 'program';
  /** of the op, or of the program */
  readonly name: string;
  /** its `index`-th random case; the same for equal streams */
  generate(random: Random): Case;
}

/** A run of one trace. */
export interface Launch {
  readonly trace: Trace;
  readonly values: RunValues;
  readonly inputs?: Readonly<Record<string, HostArray>>;
  /** names of outputs */
  readonly read?: readonly string[];
  readonly repeat?: number;
  /** the trace is run for every token */
  readonly resident?: boolean;
}

/** Persistent buffers of a case, and what the engine would compile into a plan because it is never written. */
export interface States {
  readonly states?: Readonly<Record<string, HostArray>>;
  readonly constants?: Readonly<Record<string, HostArray>>;
}

/**
 * Runs launches one after the other on the same buffers, as the engine does. A trace that occurs again uses its plan
 * again, so launches of one trace must have the same dynamic sizes, or the largest first.
 * @param read names of states whose contents afterwards are results too
 */
export async function runOn(
  device: Device,
  { states = {}, constants = {} }: States,
  launches: readonly Launch[],
  read: readonly string[] = [],
): Promise<Results> {
  const { memory } = device;
  const faults: string[] = [];
  device.onFault = (message) => faults.push(message);
  const plans = new Map<Trace, Plan>();
  let held: readonly DeviceBuffer[] = [];
  const upload = (arrays: Readonly<Record<string, HostArray>>): Buffers =>
    Object.fromEntries(Object.entries(arrays).map(([name, data]) => [name, memory.upload(name, data)]));
  try {
    const [frozen, written] = await memory.allocate('a conformance case', () => [
      upload(constants),
      upload(states),
    ]);
    held = [...Object.values(frozen), ...Object.values(written)];
    const results: Record<string, HostArray> = {};
    for (const { trace, resident, ...run } of launches) {
      let plan = plans.get(trace);
      if (!plan) {
        plan = await device.compile(trace, {
          capacity: sizesOf(trace, run.values),
          constants: frozen,
          ...(resident && { resident }),
        });
        plans.set(trace, plan);
      }
      Object.assign(results, await plan.bind('case', { ...frozen, ...written }).run(run));
    }
    for (const name of read) {
      const data = states[name]!;
      const { done } = await memory.read([written[name]!], data.byteLength);
      results[name] = like(data, (await done)[0]!);
    }
    if (faults.length > 0) throw new Error(`the device reported: ${faults.join('; ')}`);
    return results;
  } finally {
    for (const plan of plans.values()) plan.dispose();
    for (const buffer of held) memory.free(buffer);
    device.onFault = undefined;
  }
}

/** The dynamic sizes of a trace among the values of a run. */
function sizesOf(trace: Trace, values: RunValues): RunValues {
  const names = new Set(trace.tensors.flatMap(({ shape }) => shape.filter((s) => typeof s === 'string')));
  return Object.fromEntries([...names].map((name) => [name, values[name] ?? 0]));
}

function like(data: HostArray, bytes: ArrayBuffer): HostArray {
  if (data instanceof Float32Array) return new Float32Array(bytes);
  return data instanceof Uint32Array ? new Uint32Array(bytes) : new Int32Array(bytes);
}

const dtypeOf = (data: HostArray): DType =>
  data instanceof Float32Array ? 'f32' : data instanceof Uint32Array ? 'u32' : 'i32';

/** A tensor that a trace reads. */
export interface Operand {
  readonly shape: readonly Size[];
  readonly data: HostArray;
  /** in a persistent buffer, as the engine has it; what is written in place had better be */
  readonly state?: boolean;
}

export interface TraceCase<I extends Readonly<Record<string, Operand | undefined>>> {
  /** names the trace */
  readonly name: string;
  readonly about: Case['about'];
  readonly operands: I;
  readonly values?: RunValues;
  /** Applies the ops; returns the results by name. */
  readonly apply: (
    trace: Trace,
    refs: { readonly [K in keyof I]: I[K] extends Operand ? TensorRef : TensorRef | undefined },
  ) => Readonly<Record<string, TensorRef>>;
  /** by result; those without one, such as scratch, are not read */
  readonly checks: Readonly<Record<string, Check>>;
}

/** A case of one trace that is made on the spot. A result in the memory of a state is read from there. */
export function traceCase<I extends Readonly<Record<string, Operand | undefined>>>({
  name,
  about,
  operands,
  values = {},
  apply,
  checks,
}: TraceCase<I>): Case {
  const trace = new Trace(`conformance.${name}`);
  const refs: Record<string, TensorRef> = {};
  const inputs: Record<string, HostArray> = {};
  const states: Record<string, HostArray> = {};
  const stateOf = new Map<number, string>();
  for (const [key, operand] of Object.entries<Operand | undefined>(operands)) {
    if (!operand) continue;
    const { shape, data, state } = operand;
    const ref = (refs[key] = state
      ? trace.state(key, shape, dtypeOf(data))
      : trace.input(key, shape, dtypeOf(data)));
    (state ? states : inputs)[key] = data;
    if (state) stateOf.set(ref.storage, key);
  }
  const outputs = apply(trace, refs as Parameters<typeof apply>[1]);
  const read: string[] = [];
  const kept = new Map<string, string>();
  for (const result of Object.keys(checks)) {
    const state = stateOf.get(outputs[result]!.storage);
    if (state) kept.set(result, state);
    else {
      trace.output(result, outputs[result]!);
      read.push(result);
    }
  }
  return {
    about,
    traces: [trace],
    checks,
    async run(device) {
      const results = await runOn(device, { states }, [{ trace, values, inputs, read }], [...kept.values()]);
      const named: Record<string, HostArray> = { ...results };
      for (const [result, state] of kept) named[result] = results[state]!;
      return named;
    },
  };
}

export interface OpCase<I extends Tensors, O extends string, A> {
  readonly about: Case['about'];
  readonly inputs: { readonly [K in keyof I]: Operand | undefined };
  readonly attrs: A;
  readonly values?: RunValues;
  /** by output; scratch is left out */
  readonly checks: Readonly<Partial<Record<O, Check>>>;
}

/** A case of one op alone. */
export function opCase<I extends Tensors, O extends string, A>(
  op: Op<I, O, A>,
  { inputs, attrs, checks, ...rest }: OpCase<I, O, A>,
): Case {
  return traceCase({
    ...rest,
    name: op.name,
    operands: inputs,
    apply: (trace, refs) => trace.apply(op, refs as unknown as I, attrs),
    checks: checks as Case['checks'],
  });
}
