/** Runs the cases of one op or program, and keeps what came out. */
import type { Device } from '../engine/devices/device';
import type { GpuContext } from '../engine/devices/webgpu/plan';
import type { WebGpuDevice } from '../engine/devices/webgpu/webgpu-device';
import type { AdapterProfile } from '../kernels/op';
import type { Case, Subject } from './case';
import { kernelName, kernelsOf, loweringKey, writersOf } from './kernels';
import { shareOf, type Check, type Results } from './measure';
import { Random } from './random';
import { plainNumber, type FailureReport, type SubjectReport, type WorstReport } from './report';

/** One way to run everything on the GPU. */
export interface Variant {
  readonly name: string;
  /** what the engine uses on this adapter */
  readonly own: boolean;
  /** asked only about cases that fail */
  readonly opinion: boolean;
  /** the ops that it is run with; default: everything */
  readonly only?: readonly string[];
  readonly device: WebGpuDevice;
  readonly profile: AdapterProfile;
}

/** What a variant made of a case. */
interface Outcome {
  readonly variant: Variant;
  readonly results: Results;
}

/** The running result of one subject. */
export class Tally {
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
    const outcomes: Outcome[] = [];
    for (const variant of variants) {
      const { device, profile, only } = variant;
      if (only && !only.includes(name)) continue;
      const key = loweringKey(made.traces, profile);
      const failed = this.#failures.some((failure) => failure.case === id);
      if (seen.has(key) || (variant.opinion && !failed)) continue;
      seen.add(key);
      const kernels = kernelsOf(made.traces, profile);
      for (const kernel of kernels) this.#kernels.add(kernel);
      try {
        const results = await guarded(device.context, () => made.run(device));
        outcomes.push({ variant, results });
      } catch (error) {
        const about = { case: id, variant: variant.name, about: made.about };
        this.#fail({ ...about, kernels, message: messageOf(error) });
        continue;
      }
      this.#compare(id, made, outcomes.at(-1)!, expected);
    }
    this.#weigh(id, made, outcomes);
  }

  #compare(id: string, { checks, traces, about }: Case, outcome: Outcome, oracle: Results): void {
    const { variant, results } = outcome;
    for (const [result, check] of Object.entries(checks)) {
      const measured = check(results[result]!, oracle[result]!, { ours: results, oracle });
      const { error, bound, at, beyond, of } = measured;
      const share = shareOf(measured);
      this.#comparisons++;
      const worst = {
        case: id,
        variant: variant.name,
        result,
        error: plainNumber(error),
        bound,
        share: plainNumber(share),
      };
      if (!this.#worst || share > this.#worst.size) this.#worst = { ...worst, size: share };
      if (share <= 1) continue;
      this.#fail({
        ...worst,
        kernels: writersOf(traces, result, variant.profile),
        about,
        at,
        ours: plainNumber(measured.ours),
        oracle: plainNumber(measured.oracle),
        beyond,
        of,
      });
    }
  }

  /** Where kernels that share no code give the same, and the oracle something else: says so in the failures. */
  #weigh(id: string, { checks, traces }: Case, outcomes: readonly Outcome[]): void {
    const names = (result: string, { profile }: Variant): string[] =>
      writersOf(traces, result, profile).map(kernelName);
    this.#failures.forEach((failure, i) => {
      const { result } = failure;
      const own = outcomes.find(({ variant }) => variant.name === failure.variant);
      if (failure.case !== id || result === undefined || !own) return;
      const mine = names(result, own.variant);
      const agrees = outcomes
        .filter((other) => !names(result, other.variant).some((name) => mine.includes(name)))
        .filter((other) => agree(checks[result]!, result, own.results, other.results))
        .map(({ variant }) => variant.name);
      if (agrees.length > 0) this.#failures[i] = { ...failure, agrees };
    });
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

const agree = (check: Check, result: string, ours: Results, oracle: Results): boolean =>
  shareOf(check(ours[result]!, oracle[result]!, { ours, oracle })) <= 1;

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
