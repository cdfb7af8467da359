/** Nothing that computes is left out of the self-test. */
import { expect, test } from 'vitest';
import { kernelsOf } from '../../src/conformance/kernels';
import { Random } from '../../src/conformance/random';
import { SUBJECTS } from '../../src/conformance/subjects';
import * as steps from '../../src/engine/program/steps';
import { LOSSES } from '../../src/kernels/loss/index';
import type { AdapterProfile } from '../../src/kernels/op';

const modules = import.meta.glob<Record<string, unknown>>('/src/kernels/**/*.ts', { eager: true });
const bodies = import.meta.glob<string>('/src/kernels/**/*.wgsl', {
  eager: true,
  query: '?raw',
  import: 'default',
});

const profile: AdapterProfile = {
  kind: 'software',
  vendor: '',
  architecture: '',
  subgroups: true,
  f16: false,
  maxWorkgroupStorage: 16384,
  maxInvocations: 256,
};
const PROFILES: readonly AdapterProfile[] = [
  profile,
  { ...profile, kind: 'gpu' },
  { ...profile, subgroups: false },
];

/** The cases of a run with default options. */
const cases = SUBJECTS.flatMap((subject) =>
  Array.from({ length: subject.kind === 'op' ? 16 : 4 }, (_, i) =>
    subject.generate(new Random(1, subject.name, i)),
  ),
);

const isOp = (value: unknown): value is { readonly name: string } =>
  typeof value === 'object' && value !== null && 'webgpu' in value && 'outputs' in value && 'name' in value;

test('every op of src/kernels has random cases: add yours to src/conformance/subjects.ts', () => {
  const ops = Object.values(modules).flatMap((module) =>
    Object.values(module)
      .filter(isOp)
      .map(({ name }) => name),
  );
  const losses = Object.values(LOSSES).map(({ op }) => op.name);
  const covered = SUBJECTS.filter(({ kind }) => kind === 'op').map(({ name }) => name);
  expect([...new Set([...ops, ...losses])].sort()).toEqual([...covered].sort());
});

test('every program of src/engine/program/steps.ts has random cases', () => {
  const programs = Object.keys(steps).filter((name) => name.endsWith('Trace'));
  const programCases = SUBJECTS.filter(({ kind }) => kind === 'program').flatMap(
    (subject) => subject.generate(new Random(1, subject.name, 0)).traces,
  );
  const made = new Set(programCases.map(({ name }) => name.split('.')[0]));
  expect([...made]).toHaveLength(programs.length);
});

test('the cases of a default run reach every kernel, on some adapter', () => {
  const files = Object.entries(bodies)
    .filter(([, code]) => code.includes('@compute'))
    .map(([path]) => path.split('/').at(-1)!.replace('.wgsl', ''))
    // the entry point of all losses, whose kernels have the names of the losses
    .filter((stem) => stem !== 'loss-map');
  const reached = new Set(
    PROFILES.flatMap((p) =>
      cases.flatMap(({ traces }) => kernelsOf(traces, p).map((kernel) => kernel.split(' ')[0]!)),
    ),
  );
  const losses = Object.values(LOSSES).map(({ op }) => op.name);
  expect([...reached].sort()).toEqual([...files, ...losses].sort());
});

test('a case is the same whenever it is generated', () => {
  for (const subject of SUBJECTS) {
    const about = () => subject.generate(new Random(7, subject.name, 3)).about;
    expect(about()).toEqual(about());
  }
});
