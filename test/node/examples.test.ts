/** Every example in a real browser, for a few steps: what it prints is what it promises. */
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { EXAMPLES, openExamples } from '../../scripts/examples.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
let examples: Awaited<ReturnType<typeof openExamples>>;
beforeAll(async () => {
  examples = await openExamples();
});
afterAll(() => examples.close());

/** Runs an example; returns the lines it printed. */
async function run(name: string, ...args: string[]): Promise<string[]> {
  const lines: string[] = [];
  const problem = await examples.run(name, args, (line) => lines.push(...line.split('\n')));
  expect(problem, lines.join('\n')).toBe(null);
  return lines;
}

/** The numbers after a label, in order. */
const numbers = (lines: readonly string[], label: RegExp): number[] =>
  lines.flatMap((line) => {
    const found = new RegExp(`${label.source} *(-?[\\d.]+)`).exec(line);
    return found ? [Number(found[1])] : [];
  });
const rising = (values: readonly number[]) => values.every((x, i) => i === 0 || x > values[i - 1]!);
const falling = (values: readonly number[]) => rising(values.map((x) => -x));

test('without a known name the script lists what there is, a line each', () => {
  const script = ['scripts/run-example.mjs'];
  const listed = execFileSync(process.execPath, script, { cwd: root, encoding: 'utf8' });
  const lines = listed.trim().split('\n');
  expect(lines).toHaveLength(EXAMPLES.length);
  lines.forEach((line, i) => expect(line).toMatch(new RegExp(`npm run example ${EXAMPLES[i]} .* \\w+`)));
  const unknown = spawnSync(process.execPath, [...script, 'nope'], { cwd: root, encoding: 'utf8' });
  expect(unknown.status).toBe(1);
  expect(unknown.stderr).toContain(`There is no example "nope". There are:\n\n  ${lines[0]!.trim()}`);
});

test('first-steps is the code of the README, and does what it says, by the script', () => {
  const [, code] = readFileSync(`${root}/README.md`, 'utf8').match(/```ts\n(.*?)```/s)!;
  const file = readFileSync(`${root}/examples/first-steps.ts`, 'utf8');
  expect(file.slice(file.indexOf('import')).replace('../src/index', 'webtinker')).toBe(code);
  const args = ['scripts/run-example.mjs', 'first-steps'];
  const lines = execFileSync(process.execPath, args, { cwd: root, encoding: 'utf8' }).trim().split('\n');
  expect(lines.pop()!.trim()).toBe('anana-bay plit-say');
  expect(lines).toHaveLength(20);
  expect(Number(lines.at(-1))).toBeLessThan(Number(lines[0]) / 10);
});

test('pig-latin prints the table, falling losses, and samples', async () => {
  const lines = await run('pig-latin');
  const output = lines.join('\n');
  expect(output).toMatch(/Input +Target +Weight/);
  const losses = numbers(lines, /loss per token:/);
  expect(losses).toHaveLength(20);
  expect(losses[5]).toBeLessThan(losses[0]!);
  expect(losses.at(-1)).toBeLessThan(0.1);
  expect(output.match(/^\d: "/gm)).toHaveLength(8);
  expect(output.match(/^✓/gm)).toHaveLength(7);
});

test('checkpoints: the resumed losses are those of the run that went on', async () => {
  const lines = await run('checkpoints', '2');
  const output = lines.join('\n');
  expect(numbers(lines, /^Step \d {2}loss/)).toHaveLength(4);
  expect(output.match(/^Step [34] .* exactly as without the restart$/gm)).toHaveLength(2);
  const [, first, second] = output.match(/^Without the optimizer's state: (.*), then (.*)$/m)!;
  expect(output).toContain(`Step 3  loss ${first}  exactly`);
  expect(output).not.toContain(`loss ${second} `);
  expect(output).toMatch(/^Sampled from tinker:.*\/sampler_weights\/step-4: "/m);
  expect(output).toMatch(/^- sampler_weights\/step-4 \(sampler\), \d{6} bytes, kept for good$/m);
  expect(output).toMatch(/^- weights\/step-2 \(training\), \d{7} bytes, kept until /m);
  expect(output).toMatch(/^Its archive has \d{6} bytes$/m);
  expect(output).toMatch(/^Deleted; 0 checkpoints left$/m);
});

test('custom-loss: each falls, and the one by hand equals the one differentiated', async () => {
  const lines = await run('custom-loss', '3');
  const squared = numbers(lines, /logprob_squared_loss/);
  const variance = numbers(lines, /variance_loss/);
  expect(squared).toHaveLength(6);
  expect(squared.slice(3)).toEqual(squared.slice(0, 3));
  expect(falling(squared.slice(0, 3))).toBe(true);
  expect(variance).toHaveLength(3);
  expect(falling(variance)).toBe(true);
});

test('dpo: the margin rises from zero, and the taste carries over', async () => {
  const lines = await run('dpo', '6');
  const margins = numbers(lines, /margin/);
  expect(margins).toHaveLength(6);
  expect(margins[0]).toBeCloseTo(0, 3);
  expect(rising(margins)).toBe(true);
  expect(numbers(lines, /loss/)[0]).toBeCloseTo(Math.log(2), 3);
  expect(numbers(lines, /chosen/).at(-1)).toBeGreaterThan(numbers(lines, /rejected/).at(-1)!);
  expect(lines).toContain('before: coffee break');
  expect(lines).toContain('after : COFFEE BREAK');
});

test.for(['importance_sampling', 'ppo', 'cispo', 'dro'])('rl: the reward rises under %s', async (lossFn) => {
  const rewards = numbers(await run('rl', lossFn, '3'), /mean reward/);
  expect(rewards).toHaveLength(3);
  expect(rewards.at(-1)).toBeGreaterThan(rewards[0]! + 0.08);
});

test('export-onnx: transformers.js writes from the exported files what webtinker writes', async () => {
  const lines = await run('export-onnx', '12');
  const output = lines.join('\n');
  expect(numbers(lines, /^Step \d+ {2}loss/)).toHaveLength(12);
  expect(output).toMatch(/^- onnx\/model\.onnx, \d{7} bytes$/m);
  const [, ours] = output.match(/^webtinker: +"(.*)"$/m)!;
  expect(ours).toContain('ana-bay plit-say');
  expect(lines).toContain(`transformers.js: "${ours}"`);
});

test('an example that fails says why', async () => {
  const lines: string[] = [];
  const problem = await examples.run('rl', ['reinforce'], (line) => lines.push(line));
  expect(problem).toMatch(/^BadRequestError: .*reinforce/);
  expect(lines.at(-1)).toBe(problem);
});
