/** The package as its users get it: built, packed, and unpacked into a project of theirs. */
import { execFileSync, spawn, type ExecFileSyncOptions } from 'node:child_process';
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync } from 'node:fs';
import { rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../../..', import.meta.url));

/** When the latest of these files and folders was changed, ms. */
function newest(...paths: string[]): number {
  let latest = 0;
  for (const path of paths) {
    const stat = statSync(join(root, path));
    latest = Math.max(latest, stat.mtimeMs);
    if (!stat.isDirectory()) continue;
    for (const entry of readdirSync(join(root, path))) latest = Math.max(latest, newest(join(path, entry)));
  }
  return latest;
}

/** Builds dist/ unless what is there is later than all that it is made of. */
export function ensureBuilt(): void {
  const made = statSync(join(root, 'dist/types/index.d.ts'), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  const sources = ['src', 'models', 'scripts/build.mjs', 'vite.lib.config.ts', 'package-lock.json'];
  if (made < newest(...sources))
    execFileSync(process.execPath, ['scripts/build.mjs'], { cwd: root, stdio: 'pipe' });
}

/** What `package.json` says of the package. */
export const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  readonly dependencies: Readonly<Record<string, string>>;
  readonly exports: Readonly<Record<string, string | Readonly<Record<string, string>>>>;
  readonly types: string;
};

let archive: string | undefined;

/** The path of the package as `npm publish` would send it. */
function pack(): string {
  if (archive) return archive;
  ensureBuilt();
  const folder = mkdtempSync(join(tmpdir(), 'webtinker-packed-'));
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  const args = ['pack', '--ignore-scripts', '--loglevel=error', '--pack-destination', folder];
  execFileSync('npm', args, { cwd: root, stdio: 'pipe', shell: process.platform === 'win32' });
  return (archive = join(folder, readdirSync(folder)[0]!));
}

export interface ProjectOptions {
  /** packages of this repository that the project has beside ours and what ours depends on */
  readonly with?: readonly string[];
  /** packages that ours depends on and the project lacks all the same */
  readonly without?: readonly string[];
  /** packages to copy, not to link: they then look for others in the project */
  readonly copy?: readonly string[];
}

/** A folder with a project that has the packed package, what that depends on, and nothing else. */
export class Project {
  readonly path = mkdtempSync(join(tmpdir(), 'webtinker-user-'));

  constructor(options: ProjectOptions = {}) {
    const modules = join(this.path, 'node_modules');
    mkdirSync(join(modules, 'webtinker'), { recursive: true });
    execFileSync('tar', ['-xzf', pack(), '--strip-components=1', '-C', join(modules, 'webtinker')]);
    const { with: added = [], without = [], copy = [] } = options;
    for (const name of [...Object.keys(manifest.dependencies), ...added]) {
      if (without.includes(name)) continue;
      mkdirSync(dirname(join(modules, name)), { recursive: true });
      const from = join(root, 'node_modules', name);
      if (copy.includes(name)) cpSync(from, join(modules, name), { recursive: true });
      else symlinkSync(from, join(modules, name), 'junction');
    }
    this.write('package.json', '{ "type": "module" }');
  }

  write(name: string, text: string): void {
    writeFileSync(join(this.path, name), text);
  }

  /** Copies a file of this repository. */
  add(file: string): void {
    copyFileSync(join(root, file), join(this.path, file.slice(file.lastIndexOf('/') + 1)));
  }

  /** Runs a script with Node and gives what it prints; throws if it fails. */
  run(script: string, args: readonly string[] = [], options: ExecFileSyncOptions = {}): string {
    return execFileSync(process.execPath, [script, ...args], {
      cwd: this.path,
      timeout: 120_000,
      ...options,
      env: { ...process.env, WEBTINKER_HOME: join(this.path, 'home'), ...options.env },
      encoding: 'utf8',
    });
  }

  /** Like `run` with the text of a module, and without waiting: how it ended, and what it printed. */
  async module(text: string): Promise<{ readonly code: number | null; readonly out: string }> {
    const name = `module-${Math.random().toString(36).slice(2)}.mjs`;
    this.write(name, text);
    const env = { ...process.env, WEBTINKER_HOME: join(this.path, 'home') };
    const child = spawn(process.execPath, [name], { cwd: this.path, env, timeout: 120_000 });
    let out = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (out += String(data)));
    const code = await new Promise<number | null>((done) => child.on('close', done));
    return { code, out };
  }

  remove(): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}
