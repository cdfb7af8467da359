/** Runs every op and every program on WebGPU and on ONNX Runtime in the same page, and compares. */
import { openContext } from '../engine/devices/webgpu/context';
import type { GpuContext } from '../engine/devices/webgpu/plan';
import { WebGpuDevice } from '../engine/devices/webgpu/webgpu-device';
import { wasmOpener } from '../engine/devices/onnx/wasm';
import type { AdapterProfile } from '../kernels/op';
import type { Subject } from './case';
import { verdictOf, type ConformanceReport, type SubjectReport } from './report';
import { SUBJECTS } from './subjects';
import { Tally, type Variant } from './tally';

export interface ConformanceOptions {
  /** of all random cases; default 1 */
  readonly seed?: number;
  /** random cases of each op; of each program a quarter as many; default 16 */
  readonly cases?: number;
  /** names of ops and programs, or of single cases: `matmul`, `matmul#12`; default: everything */
  readonly only?: readonly string[];
  /** ends the run between two cases */
  readonly signal?: AbortSignal;
  /** called after every case with what is known by then of its op or program */
  readonly onProgress?: (progress: ConformanceProgress) => void;
}

export interface ConformanceProgress {
  /** cases done, of how many */
  readonly done: number;
  readonly total: number;
  readonly subject: SubjectReport;
}

/**
 * The adapter as it is; on software adapters, which are what CI has, also with the kernels that others get. GPUs run
 * those of software adapters as a second opinion.
 */
function variantsOf(context: GpuContext): Variant[] {
  const make = (
    name: string,
    changes: Partial<AdapterProfile>,
    role: Pick<Variant, 'own' | 'opinion' | 'only'>,
  ): Variant => {
    const profile = { ...context.profile, ...changes };
    return { name, ...role, profile, device: new WebGpuDevice({ ...context, profile }) };
  };
  const { kind } = context.profile;
  const own = make(kind, {}, { own: true, opinion: false });
  if (kind === 'gpu') {
    const changes = { kind: 'software', subgroups: false } as const;
    return [own, make('software', changes, { own: false, opinion: true })];
  }
  return [
    own,
    make('gpu', { kind: 'gpu' }, { own: false, opinion: false }),
    // other ops then get kernels that the cases reach anyway, and shaders are slow to compile here
    make(
      'software without subgroups',
      { subgroups: false },
      { own: false, opinion: false, only: ['matmul'] },
    ),
  ];
}

/** The cases of a subject that are wanted, by index. */
function indicesOf({ kind, name }: Subject, cases: number, only: readonly string[] | undefined): number[] {
  const count = kind === 'op' ? cases : Math.ceil(cases / 4);
  const all = Array.from({ length: count }, (_, i) => i);
  if (!only || only.includes(name)) return all;
  return only
    .filter((wanted) => wanted.startsWith(`${name}#`))
    .map((wanted) => Number(wanted.slice(name.length + 1)))
    .filter((index) => Number.isSafeInteger(index) && index >= 0);
}

/** @throws RangeError naming what `only` asks for and nobody offers */
function checkNames(only: readonly string[]): void {
  for (const wanted of only) {
    const name = wanted.replace(/#\d+$/, '');
    if (!SUBJECTS.some((subject) => subject.name === name)) {
      const known = SUBJECTS.map((subject) => subject.name).join(', ');
      throw new RangeError(`only: there is no op or program '${name}'; known are ${known}`);
    }
  }
}

/**
 * Checks this page's WebGPU adapter: random cases of every op and every program, on it and on ONNX Runtime.
 * @throws DeviceUnavailableError where there is no WebGPU, or no WebAssembly
 * @throws RangeError for names in `only` that nothing has
 * @throws the reason of `signal`
 */
export async function runConformance({
  seed = 1,
  cases = 16,
  only,
  signal,
  onProgress = () => undefined,
}: ConformanceOptions = {}): Promise<ConformanceReport> {
  if (only) checkNames(only);
  const started = performance.now();
  const context = await openContext();
  const oracle = await wasmOpener()
    .open()
    .catch((error: unknown) => {
      context.device.destroy();
      throw error;
    });
  const variants = variantsOf(context);
  let ended: string | null = null;
  for (const { lost } of [oracle, variants[0]!.device]) void lost.then(({ message }) => (ended = message));
  try {
    const wanted = SUBJECTS.map((subject) => ({ subject, indices: indicesOf(subject, cases, only) }));
    const total = wanted.reduce((sum, { indices }) => sum + indices.length, 0);
    const tallies: Tally[] = [];
    let done = 0;
    for (const { subject, indices } of wanted) {
      if (indices.length === 0 || ended !== null) continue;
      const tally = new Tally(subject, seed);
      tallies.push(tally);
      for (const index of indices) {
        signal?.throwIfAborted();
        await tally.run(index, variants, oracle);
        onProgress({ done: ++done, total, subject: tally.report() });
        if (ended !== null) break;
      }
    }
    const subjects = tallies.map((tally) => tally.report());
    const adapter = adapterOf(context);
    const name = [adapter.vendor, adapter.architecture, adapter.description].filter(Boolean).join(' ');
    const comparisons = subjects.reduce((sum, s) => sum + s.comparisons, 0);
    return {
      adapter,
      oracle: oracle.info.adapter,
      browser: navigator.userAgent,
      seed,
      variants: variants.map(({ name, own }) => ({ name, own })),
      subjects,
      cases: done,
      comparisons,
      seconds: (performance.now() - started) / 1000,
      ended,
      passed: ended === null && comparisons > 0 && subjects.every(({ failures }) => failures.length === 0),
      verdict: verdictOf({ subjects, ended }, name || 'this adapter', oracle.info.adapter),
    };
  } finally {
    await oracle.dispose();
    // the variants share one GPU
    await variants[0]!.device.dispose();
  }
}

function adapterOf({ device, profile }: GpuContext): ConformanceReport['adapter'] {
  const { vendor, architecture, device: name, description } = device.adapterInfo;
  const features = [...device.features].sort();
  return { vendor, architecture, device: name, description, software: profile.kind === 'software', features };
}
