/** Everything that is checked. An op without a line here fails `test/conformance/coverage.test.ts`. */
import type { Subject } from './case';
import {
  attentionBackwardSubject,
  attentionCachedSubject,
  attentionSubject,
  kvAppendSubject,
} from './ops/attention';
import { logprobBackwardSubject, logprobSubject, topKSubject } from './ops/head';
import { loraGradientsSubject, loraMergeSubject, matmulSubject } from './ops/products';
import {
  embeddingSubject,
  rmsnormBackwardSubject,
  rmsnormSubject,
  ropeSubject,
  swigluBackwardSubject,
  swigluSubject,
} from './ops/rows';
import { sampleSubject } from './ops/sample';
import {
  adamwSubject,
  gradientGuardSubject,
  gradNormSubject,
  lossFaultSubject,
  lossSubjects,
} from './ops/training';
import { decodingPrograms } from './programs/decoding';
import { trainingPrograms } from './programs/training';

export const SUBJECTS: readonly Subject[] = [
  embeddingSubject,
  rmsnormSubject,
  rmsnormBackwardSubject,
  matmulSubject,
  ropeSubject,
  attentionSubject,
  attentionBackwardSubject,
  swigluSubject,
  swigluBackwardSubject,
  loraMergeSubject,
  loraGradientsSubject,
  logprobSubject,
  logprobBackwardSubject,
  topKSubject,
  ...lossSubjects,
  lossFaultSubject,
  gradientGuardSubject,
  gradNormSubject,
  adamwSubject,
  kvAppendSubject,
  attentionCachedSubject,
  sampleSubject,
  ...trainingPrograms,
  ...decodingPrograms,
];
