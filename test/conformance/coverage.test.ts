/** Nothing that computes is left out of the self-test. */
import { expect, test } from 'vitest';
import { Random } from '../../src/conformance/random';
import { SUBJECTS } from '../../src/conformance/subjects';
import * as steps from '../../src/engine/program/steps';
import { LOSSES } from '../../src/kernels/loss/index';

const modules = import.meta.glob<Record<string, unknown>>('/src/kernels/**/*.ts', { eager: true });
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

test('a case is the same whenever it is generated', () => {
  for (const subject of SUBJECTS) {
    const about = () => subject.generate(new Random(7, subject.name, 3)).about;
    expect(about()).toEqual(about());
  }
});
