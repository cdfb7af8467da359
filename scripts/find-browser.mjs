/**
 * Finds a Chromium-family browser, or says in one line what to install.
 * As root on Debian it installs Debian's chromium itself.
 */
import { execFileSync } from 'node:child_process';
import { accessSync, constants, existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';

const NAMES = [
  'chromium',
  'chromium-browser',
  'google-chrome',
  'google-chrome-stable',
  'microsoft-edge',
  'microsoft-edge-stable',
  'chrome.exe',
  'msedge.exe',
];

const FIXED = [
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
  '/Applications/Chromium.app/Contents/MacOS/Chromium',
  '/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge',
  ...[process.env.PROGRAMFILES, process.env['PROGRAMFILES(X86)'], process.env.LOCALAPPDATA]
    .filter((dir) => dir !== undefined)
    .flatMap((dir) => [
      join(dir, 'Google/Chrome/Application/chrome.exe'),
      join(dir, 'Microsoft/Edge/Application/msedge.exe'),
    ]),
];

function executable(path) {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function search() {
  const wanted = process.env.WEBTINKER_BROWSER;
  if (wanted) {
    if (!executable(wanted)) throw new Error(`WEBTINKER_BROWSER=${wanted} is not an executable file.`);
    return wanted;
  }
  const dirs = (process.env.PATH ?? '').split(delimiter);
  const onPath = NAMES.flatMap((name) => dirs.map((dir) => join(dir, name)));
  return [...onPath, ...FIXED].find(executable);
}

function installOnDebian() {
  if (process.platform !== 'linux' || process.getuid?.() !== 0 || !existsSync('/etc/debian_version')) return;
  console.error('No Chromium found: installing Debian’s chromium (about a minute) …');
  const options = {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  };
  execFileSync('apt-get', ['update', '-qq'], options);
  execFileSync('apt-get', ['install', '-y', '-qq', '--no-install-recommends', 'chromium'], options);
}

/** Path of a Chromium, Chrome or Edge executable. Throws an Error with one line saying what to install. */
export function findBrowser() {
  let found = search();
  if (!found) {
    installOnDebian();
    found = search();
  }
  if (!found) {
    throw new Error(
      'No Chromium, Chrome or Edge found: install one (Debian/Ubuntu: `sudo apt-get install chromium`), or set WEBTINKER_BROWSER to its path.',
    );
  }
  return found;
}

/**
 * Launch arguments: WebGPU on, on the bundled software adapter unless
 * WEBTINKER_ADAPTER=default asks for the machine's own GPU.
 */
export function browserArgs() {
  const args = [
    '--enable-unsafe-webgpu',
    '--enable-features=Vulkan',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--no-first-run',
  ];
  if (process.env.WEBTINKER_ADAPTER !== 'default') args.push('--use-webgpu-adapter=swiftshader');
  if (process.getuid?.() === 0) args.push('--no-sandbox');
  return args;
}
