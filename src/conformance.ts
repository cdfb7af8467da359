/**
 * The self-test: every op and every program on this page's WebGPU and on ONNX Runtime, which computes on the
 * processor and shares no code with the kernels. Real GPUs and drivers do get gradients wrong.
 *
 * @example
 * const report = await runConformance();
 * console.log(report.verdict, tableOf(report));
 */
export { runConformance, type ConformanceOptions, type ConformanceProgress } from './conformance/run';
export {
  failureText,
  tableOf,
  type ConformanceReport,
  type FailureReport,
  type ReportNumber,
  type SubjectReport,
  type VariantReport,
  type WorstReport,
} from './conformance/report';
export type { Plain } from './conformance/case';
