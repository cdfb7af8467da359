/** Runs every op and every program on WebGPU and on ONNX Runtime in the same page, and compares. */
import { openContext } from '../engine/devices/webgpu/context';
import type { GpuContext } from '../engine/devices/webgpu/plan';
import { WebGpuDevice } from '../engine/devices/webgpu/webgpu-device';
import { wasmOpener } from '../engine/devices/onnx/wasm';
import type { Device } from '../engine/devices/device';
import type { AdapterProfile } from '../kernels/op';
import type { Case, Subject } from './case';
import { kernelsOf, loweringKey, writersOf } from './kernels';
import { shareOf, type Results } from './measure';
import { Random } from './random';
import {
  plainNumber,
  verdictOf,
  type ConformanceReport,
  type FailureReport,
  type SubjectReport,
  type WorstReport,
} from './report';
import { SUBJECTS } from './subjects';

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

interface Variant {
  readonly name: string;
  readonly own: boolean;
  readonly device: WebGpuDevice;
  readonly profile: AdapterProfile;
}

/** The adapter as it is; on software adapters, which are what CI has, also with the kernels that others get. */
function variantsOf(context: GpuContext): Variant[] {
  const make = (name: string, own: boolean, changes: Partial<AdapterProfile>): Variant => {
    const profile = { ...context.profile, ...changes };
    return { name, own, profile, device: new WebGpuDevice({ ...context, profile }) };
  };
  const { kind, subgroups } = context.profile;
  const variants = [make(kind, true, {})];
  if (kind === 'software') {
    variants.push(make('gpu', false, { kind: 'gpu' }));
    if (subgroups) variants.push(make('software without subgroups', false, { subgroups: false }));
  }
  return variants;
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

/** The running result of one subject. */
class Tally {
  #cases = 0;
  #comparisons = 0;
  #worst: (WorstReport & { readonly size: number }) | undefined;
  readonly #failures: FailureReport[] = [];
  readonly #kernels = new Set<string>();

  constructor(
    private readonly subject: Subject,
    private readonly seed: number,
  ) {}

  async run(index: number, variants: readonly Variant[], oracle: Device): Promise<void> {
    const { name } = this.subject;
    const id = `${name}#${index}`;
    const made = this.subject.generate(new Random(this.seed, name, index));
    this.#cases++;
    let expected: Results;
    try {
      expected = await made.run(oracle);
    } catch (error) {
      this.#fail({ case: id, variant: 'onnx', kernels: [], about: made.about, message: messageOf(error) });
      return;
    }
    const seen = new Set<string>();
    for (const { name: variant, device, profile } of variants) {
      const key = loweringKey(made.traces, profile);
      if (seen.has(key)) continue;
      seen.add(key);
      const kernels = kernelsOf(made.traces, profile);
      for (const kernel of kernels) this.#kernels.add(kernel);
      try {
        const actual = await guarded(device.context, () => made.run(device));
        this.#compare(made, actual, expected, { case: id, variant }, profile);
      } catch (error) {
        this.#fail({ case: id, variant, kernels, about: made.about, message: messageOf(error) });
      }
    }
  }

  #compare(
    { checks, traces, about }: Case,
    ours: Results,
    oracle: Results,
    where: { readonly case: string; readonly variant: string },
    profile: AdapterProfile,
  ): void {
    for (const [result, check] of Object.entries(checks)) {
      const { error, bound, ...element } = check(ours[result]!, oracle[result]!, { ours, oracle });
      const share = shareOf({ error, bound });
      this.#comparisons++;
      const worst = { ...where, result, error: plainNumber(error), bound, share: plainNumber(share) };
      if (!this.#worst || share > this.#worst.size) this.#worst = { ...worst, size: share };
      if (share <= 1) continue;
      this.#fail({
        ...worst,
        kernels: writersOf(traces, result, profile),
        about,
        at: element.at,
        ours: plainNumber(element.ours),
        oracle: plainNumber(element.oracle),
        beyond: element.beyond,
        of: element.of,
      });
    }
  }

  #fail(failure: Omit<FailureReport, 'seed'>): void {
    this.#failures.push({ ...failure, seed: this.seed });
  }

  report(): SubjectReport {
    const { kind, name } = this.subject;
    let worst: WorstReport | null = null;
    if (this.#worst) {
      const { size: _, ...rest } = this.#worst;
      worst = rest;
    }
    return {
      kind,
      name,
      cases: this.#cases,
      comparisons: this.#comparisons,
      worst,
      failures: [...this.#failures],
      kernels: [...this.#kernels].sort(),
    };
  }
}

/** Runs `body` inside error scopes and fails if the GPU complained. */
async function guarded<T>({ device }: GpuContext, body: () => Promise<T>): Promise<T> {
  device.pushErrorScope('validation');
  device.pushErrorScope('out-of-memory');
  const [outcome] = await Promise.allSettled([body()]);
  const memory = await device.popErrorScope();
  const validation = await device.popErrorScope();
  // what was thrown knows more, say the name of the kernel
  if (outcome.status === 'rejected') throw outcome.reason;
  const error = memory ?? validation;
  if (error) throw new Error(`the GPU reported: ${error.message}`);
  return outcome.value;
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
