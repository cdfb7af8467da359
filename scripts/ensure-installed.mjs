/**
 * Makes `npm start` and `npm test` work on a fresh clone: installs the packages
 * of package-lock.json when some are missing. Plain Node, no dependencies.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const OLDEST_NODE = [20, 19];

function readJson(path) {
  try {
    return JSON.parse(readFileSync(`${root}/${path}`, 'utf8'));
  } catch {
    return undefined;
  }
}

/** Whether node_modules holds what the lock file names (packages for other platforms may be absent). */
function installed() {
  const have = readJson('node_modules/.package-lock.json')?.packages;
  if (!have) return false;
  const want = Object.entries(readJson('package-lock.json').packages);
  return want.every(
    ([path, { version, optional, peer }]) =>
      path === '' || optional || peer || have[path]?.version === version,
  );
}

/** Ends the process with one line if Node is too old or the installation fails. */
export function ensureInstalled() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < OLDEST_NODE[0] || (major === OLDEST_NODE[0] && minor < OLDEST_NODE[1])) {
    console.error(
      `webtinker needs Node ${OLDEST_NODE.join('.')} or newer; this is ${process.versions.node}.`,
    );
    process.exit(1);
  }
  if (installed()) return;
  console.log('Installing packages (once, about a minute) …');
  const args = ['ci', '--no-audit', '--no-fund', '--loglevel=error'];
  const npm = process.env.npm_execpath;
  const { status } = npm?.endsWith('.js')
    ? spawnSync(process.execPath, [npm, ...args], { cwd: root, stdio: 'inherit' })
    : spawnSync('npm', args, { cwd: root, stdio: 'inherit', shell: process.platform === 'win32' });
  if (status !== 0) {
    console.error('`npm ci` failed; see its messages above.');
    process.exit(1);
  }
}
