/** The same training run in PyTorch + peft, in a Python process of its own. */
import { spawn } from 'node:child_process';
import { mkdtempSync, openSync, closeSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { randomTokens, type Shape, type Weights } from './llama';

export interface PeftRun {
  /** e.g. `PyTorch 2.13.0 + peft` */
  readonly name: string;
  step(): Promise<{ readonly loss: number; readonly ms: number }>;
  dispose(): void;
}

/** Writes the model as Hugging Face's files. */
function writeModel(folder: string, shape: Shape, weights: Weights): void {
  writeFileSync(join(folder, 'config.json'), JSON.stringify(shape.config));
  writeFileSync(join(folder, 'tokens.json'), JSON.stringify(randomTokens(shape)));
  const header: Record<string, unknown> = { __metadata__: { format: 'pt' } };
  let end = 0;
  for (const [name, { shape: dims, data }] of weights) {
    header[name] = { dtype: 'F32', shape: dims, data_offsets: [end, (end += data.byteLength)] };
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  const file = openSync(join(folder, 'model.safetensors'), 'w');
  for (const part of [length, json, ...[...weights.values()].map(({ data }) => data)]) writeSync(file, part);
  closeSync(file);
}

/** Undefined, and a line that says why, where there is no Python with PyTorch, transformers and peft. */
export async function peftRun(
  shape: Shape,
  weights: Weights,
  threads: number,
  say: (text: string) => void,
): Promise<PeftRun | undefined> {
  const python = process.env['WEBTINKER_PYTHON'] ?? 'python3';
  const folder = mkdtempSync(join(tmpdir(), 'webtinker-bench-'));
  writeModel(folder, shape, weights);
  const script = fileURLToPath(new URL('peft_step.py', import.meta.url));
  const child = spawn(python, [script, folder, String(threads)], { stdio: ['pipe', 'pipe', 'ignore'] });
  child.stdin.on('error', () => undefined);
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const failed = new Promise<undefined>((resolve) => {
    child.on('error', () => resolve(undefined));
  });
  const line = async (): Promise<Record<string, unknown> | undefined> => {
    const next = await Promise.race([lines.next(), failed]);
    return next && !next.done ? (JSON.parse(next.value) as Record<string, unknown>) : undefined;
  };
  const dispose = (): void => {
    child.kill();
    rmSync(folder, { recursive: true });
  };
  const hello = await line();
  if (!hello) {
    dispose();
    say(`no PyTorch + peft under ${python} (WEBTINKER_PYTHON names another): no peer to compare with`);
    return undefined;
  }
  const step: PeftRun['step'] = async () => {
    child.stdin.write('\n');
    const answer = await line();
    if (!answer) throw new Error('the Python process of the peer ended');
    return answer as { loss: number; ms: number };
  };
  return { name: `PyTorch ${String(hello['torch'])} + peft`, step, dispose };
}
