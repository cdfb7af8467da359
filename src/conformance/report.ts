/** What a conformance run says: plain data, which JSON holds without loss. */
import type { Plain } from './case';
import { kernelName } from './kernels';

/** A number of a report; JSON knows no others than finite ones. */
export type ReportNumber = number | 'NaN' | 'Infinity' | '-Infinity';

export const plainNumber = (x: number): ReportNumber =>
  Number.isFinite(x) ? x : (String(x) as 'NaN' | 'Infinity' | '-Infinity');

/** Which kernels were run: the adapter's own, or those that others get. */
export interface VariantReport {
  /** `gpu` or `software`, and `without subgroups` where the adapter's are left unused */
  readonly name: string;
  /** whether it is what the engine uses on this adapter */
  readonly own: boolean;
}

/** The worst element that a subject gave. */
export interface WorstReport {
  /** the case, as `only` takes it */
  readonly case: string;
  readonly variant: string;
  /** the result, e.g. `grad_a` */
  readonly result: string;
  /** |ours − oracle| relative to the magnitude of the terms it is made of */
  readonly error: ReportNumber;
  /** the largest that passes; 0: equal */
  readonly bound: number;
  /** error / bound */
  readonly share: ReportNumber;
}

/** A result beyond its bound, or a case that a device could not run. */
export interface FailureReport extends Partial<WorstReport> {
  /** the case, as `only` takes it: `runConformance({ seed, only: ['matmul#12'] })` runs it alone */
  readonly case: string;
  readonly seed: number;
  readonly variant: string;
  /** the kernels that write the result, or all of the case if it did not run; with their constants */
  readonly kernels: readonly string[];
  /** variants that give the same with other kernels: then it is the oracle that is likelier to be wrong */
  readonly agrees?: readonly string[];
  /** shapes, attributes and what is odd about the case */
  readonly about: { readonly [name: string]: Plain };
  /** what was thrown, where nothing was compared */
  readonly message?: string;
  /** the worst element */
  readonly at?: number;
  readonly ours?: ReportNumber;
  readonly oracle?: ReportNumber;
  /** elements beyond their bounds, of how many */
  readonly beyond?: number;
  readonly of?: number;
}

/** One op or program. */
export interface SubjectReport {
  readonly kind: 'op' | 'program';
  readonly name: string;
  /** random cases, and comparisons of their results on all variants */
  readonly cases: number;
  readonly comparisons: number;
  /** null: nothing was compared */
  readonly worst: WorstReport | null;
  readonly failures: readonly FailureReport[];
  /** all that took part */
  readonly kernels: readonly string[];
}

export interface ConformanceReport {
  readonly adapter: {
    readonly vendor: string;
    readonly architecture: string;
    readonly device: string;
    readonly description: string;
    readonly software: boolean;
    readonly features: readonly string[];
  };
  /** what it was compared with, e.g. `onnxruntime-web 1.31.0` */
  readonly oracle: string;
  readonly browser: string;
  readonly seed: number;
  readonly variants: readonly VariantReport[];
  readonly subjects: readonly SubjectReport[];
  readonly cases: number;
  readonly comparisons: number;
  readonly seconds: number;
  /** why the run ended early: a device was lost; null: it did not */
  readonly ended: string | null;
  /** nothing failed, and something was compared */
  readonly passed: boolean;
  /** the result in a sentence */
  readonly verdict: string;
}

const quantity = (n: number, what: string): string =>
  `${n.toLocaleString('en')} ${what}${n === 1 ? '' : 's'}`;

/** The result in a sentence, with the kernels that fail. */
export function verdictOf(
  { subjects, ended }: Pick<ConformanceReport, 'subjects' | 'ended'>,
  adapter: string,
  oracle: string,
): string {
  if (ended !== null) return `The run ended at ${subjects.at(-1)!.name}, because ${ended}.`;
  const comparisons = subjects.reduce((sum, s) => sum + s.comparisons, 0);
  const failed = subjects.filter(({ failures }) => failures.length > 0);
  if (failed.length === 0) {
    return comparisons === 0
      ? 'Nothing was compared.'
      : `${adapter} agrees with ${oracle} in all ${quantity(comparisons, 'comparison')}.`;
  }
  // an op names its kernel; programs are made of all of them, so they speak only where no op does
  const ops = failed.filter(({ kind }) => kind === 'op');
  const told = ops.length > 0 ? ops : failed;
  const kernels = [
    ...new Set(told.flatMap(({ failures }) => failures.flatMap((f) => f.kernels.map(kernelName)))),
  ];
  if (kernels.length === 0) {
    return `${oracle} could not run ${told.map(({ name }) => name).join(', ')}: nothing is known of ${adapter}.`;
  }
  if (told.every(({ failures }) => failures.some(({ agrees }) => agrees !== undefined))) {
    return `${oracle} stands alone on ${adapter} with ${told.map(({ name }) => name).join(', ')}: kernels that share no code agree with each other.`;
  }
  const are = kernels.length === 1 ? 'is' : 'are';
  return `On ${adapter} ${quantity(kernels.length, 'kernel')} ${are} wrong, going by ${oracle}: ${kernels.join(', ')}.`;
}

/** The table of a report as text: one line per op and program. */
export function tableOf({ subjects }: ConformanceReport): string {
  const short = (x: ReportNumber): string =>
    typeof x === 'number' ? (x === 0 ? '0' : x.toExponential(1)) : x;
  const rows = subjects.map(({ name, cases, comparisons, worst, failures }) => [
    name,
    String(cases),
    String(comparisons),
    worst ? short(worst.error) : '–',
    worst ? (worst.bound === 0 ? 'equal' : short(worst.bound)) : '–',
    worst ? (typeof worst.share === 'number' ? `${Math.round(100 * worst.share)} %` : worst.share) : '–',
    worst ? `${worst.result} of ${worst.case}` : '',
    failures.length > 0 ? `${failures.length} FAILED` : '',
  ]);
  const head = ['', 'cases', 'compared', 'worst error', 'bound', 'share', 'where', ''];
  const widths = head.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]!.length)));
  return [head, ...rows]
    .map((row) =>
      row
        .map((cell, i) => (i === 0 || i > 5 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** A failure in lines of text. */
export function failureText(f: FailureReport): string {
  const where = `${f.case}, variant ${f.variant}, seed ${f.seed}: ${f.kernels.join(', ')}`;
  const what =
    f.message ??
    `${f.result}[${f.at}] = ${f.ours}, expected ${f.oracle}: ${f.error} of its magnitude, beyond ${f.bound}; ${f.beyond} of ${f.of} elements`;
  const others = f.agrees ? `\n  as ${f.agrees.join(', ')} has it with other kernels` : '';
  return `${where}\n  ${what}${others}\n  ${JSON.stringify(f.about)}`;
}
