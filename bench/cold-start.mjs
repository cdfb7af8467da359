/**
 * What a Node program waits for: from the start of its process to its first training step on the default model,
 * with the built package, on either runtime. Each round is a process of its own; the median counts.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';

const PHRASES = [
  ['banana split', 'anana-bay plit-say'],
  ['quantum physics', 'uantum-qay ysics-phay'],
  ['donut shop', 'onut-day op-shay'],
  ['pickle jar', 'ickle-pay ar-jay'],
  ['space exploration', 'ace-spay exploration-way'],
  ['rubber duck', 'ubber-ray uck-day'],
  ['coding wizard', 'oding-cay izard-way'],
];

/** A program, which prints when it was where: ms since its process began. */
const program = (entry, device) => `
  const times = [];
  const { Datum, ModelInput, ServiceClient } = await import(${JSON.stringify(entry)});
  times.push(performance.now());
  const training = await new ServiceClient({ device: '${device}' }).createLoraTrainingClient({ rank: 16, seed: 1 });
  times.push(performance.now());
  const tokenizer = await training.getTokenizer();
  times.push(performance.now());
  const data = ${JSON.stringify(PHRASES)}.map(([english, latin]) => {
    const tokens = tokenizer.encode('English: ' + english + '\\nPig Latin: ' + latin + '\\n');
    const lossFnInputs = { target_tokens: tokens.slice(1), weights: tokens.slice(1).map(() => 1) };
    return new Datum({ modelInput: ModelInput.fromInts(tokens.slice(0, -1)), lossFnInputs });
  });
  const step = async () => {
    const pass = training.forwardBackward(data, 'cross_entropy');
    await training.optimStep({ learningRate: 1e-3 });
    return (await pass).metrics['loss:sum'];
  };
  const losses = [await step()];
  times.push(performance.now());
  for (let i = 0; i < 2; i++) losses.push(await step());
  console.log(JSON.stringify({ times, losses }));
`;

const PARTS = ['import', 'createLoraTrainingClient', 'getTokenizer', 'first step'];

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];

/** Reports a row per part and their sum, for native code and for WebAssembly. */
export function measureColdStart(root, rounds, onRow) {
  execFileSync(process.execPath, ['scripts/build.mjs'], { cwd: root, stdio: 'pipe' });
  const entry = new URL('dist/node.js', `file://${root}`).href;
  for (const device of ['cpu', 'wasm']) {
    const all = [];
    for (let round = 0; round < rounds; round++) {
      const home = mkdtempSync(join(tmpdir(), 'webtinker-cold-'));
      const env = { ...process.env, WEBTINKER_HOME: home };
      const args = ['--input-type=module', '-e', program(entry, device)];
      const { times, losses } = JSON.parse(
        execFileSync(process.execPath, args, { cwd: root, env, encoding: 'utf8' }),
      );
      rmSync(home, { recursive: true, force: true });
      if (!(losses[2] < losses[0])) throw new Error(`the loss does not fall: ${losses.join(' ')}`);
      all.push(times);
    }
    const row = (subject, value) =>
      onRow({
        bench: 'cold-start Node webtinker/pocket, 7 examples',
        device: 'Node',
        subject: `${device}: ${subject}`,
        value,
        unit: 'ms',
        better: 'lower',
      });
    PARTS.forEach((part, i) => row(part, median(all.map((times) => times[i] - (times[i - 1] ?? 0)))));
    row('process start to first step', median(all.map((times) => times.at(-1))));
  }
}
