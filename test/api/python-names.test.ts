/** The table of Python and TypeScript names stays true: complete on one side, existing on the other. */
import { describe, expect, it } from 'vitest';
import table from '../../docs/python-to-typescript.md?raw';
import * as tinker from '../../src/index';
import index from '../../src/index.ts?raw';
import python from '../fixtures/python-names.json';

const sources = import.meta.glob('../../src/api/**/*.ts', { query: '?raw', import: 'default', eager: true });
const source = Object.values(sources).join('\n');

const names = (cell: string): string[] => [...cell.matchAll(/`([^`]+)`/g)].map(([, name]) => name!);

interface Row {
  readonly python: readonly string[];
  readonly typescript: readonly string[];
}

/** Rows of the tables under one heading of columns. */
function rows(columns: RegExp): Row[] {
  let inside = false;
  return table.split('\n').flatMap((line) => {
    if (!line.startsWith('|')) inside = false;
    if (columns.test(line)) inside = true;
    if (!inside || columns.test(line) || line.startsWith('| -')) return [];
    const [, first, second] = line.split('|').map((cell) => cell.trim());
    return [{ python: names(first!), typescript: names(second!) }];
  });
}

const mapped = rows(/^\| Python +\| TypeScript/);
const ours = rows(/^\| TypeScript/).flatMap(({ python: first }) => first);

describe('the table', () => {
  it('has every public name of the SDK, once', () => {
    const listed = mapped.flatMap((row) => row.python);
    expect(listed.filter((name, i) => listed.indexOf(name) !== i)).toEqual([]);
    expect(python.names.filter((name) => !listed.includes(name))).toEqual([]);
    expect(listed.filter((name) => !python.names.includes(name))).toEqual([]);
    expect(python.names.length).toBeGreaterThan(250);
  });

  it('names the versions that were read', () => {
    const short = python.versions.map((version) => version.split('.').slice(0, 2).join('.'));
    expect(table).toContain(`versions ${short.join(' to ')}`);
  });

  it.each([...new Set([...mapped.flatMap((row) => row.typescript), ...ours])])(
    'is right about %s',
    (name) => {
      const [type, member] = name.split('.') as [string, string | undefined];
      const value = (tinker as Record<string, unknown>)[type];
      // types leave nothing at run time
      if (value === undefined) expect(index).toMatch(new RegExp(`\\b${type}\\b`));
      if (member === undefined) return;
      const atRunTime =
        typeof value === 'function' && (member in value || member in (value.prototype as object));
      if (!atRunTime) expect(source).toMatch(new RegExp(`readonly ${member}\\b`));
    },
  );
});
