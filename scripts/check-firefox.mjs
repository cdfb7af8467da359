/**
 * `node scripts/check-firefox.mjs`: trains in the built demo in Firefox, and prints what computed. Playwright drives
 * a Firefox of its own only; this drives the one that is installed, by WebDriver BiDi.
 *
 *   --firefox PATH   which (default: firefox or firefox-esr on the PATH)
 */
import { Buffer } from 'node:buffer';
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { preview } from 'vite';
import { WebSocket } from 'ws';

const root = fileURLToPath(new URL('..', import.meta.url));
const { values: options } = parseArgs({ options: { firefox: { type: 'string' } } });

function findFirefox() {
  const dirs = (process.env.PATH ?? '').split(delimiter);
  const paths = ['firefox', 'firefox-esr'].flatMap((name) => dirs.map((dir) => join(dir, name)));
  const found = options.firefox ?? paths.find((path) => existsSync(path));
  if (!found) throw new Error('No Firefox found: install one, or name it with --firefox PATH.');
  return found;
}

/** Starts Firefox and opens a session; `call` sends a command and resolves with its result. */
async function openFirefox(profile) {
  const args = [
    '--headless',
    '--no-remote',
    '--profile',
    profile,
    '--remote-debugging-port=0',
    '--width=1280',
  ];
  const browser = spawn(findFirefox(), args, { stdio: ['ignore', 'ignore', 'pipe'] });
  const address = await new Promise((resolve, reject) => {
    let said = '';
    browser.stderr.on('data', (data) => {
      const found = /WebDriver BiDi listening on (ws:\S+)/.exec((said += data));
      if (found) resolve(`${found[1]}/session`);
    });
    browser.on('exit', () => reject(new Error(`Firefox ended: ${said}`)));
  });
  const socket = new WebSocket(address);
  await new Promise((open) => socket.once('open', open));
  const waiting = new Map();
  socket.on('message', (text) => {
    const { id, result, message } = JSON.parse(text);
    waiting.get(id)?.(result, message);
  });
  let calls = 0;
  const call = (method, params = {}) =>
    new Promise((resolve, reject) => {
      waiting.set(++calls, (result, problem) => (result ? resolve(result) : reject(new Error(problem))));
      socket.send(JSON.stringify({ id: calls, method, params }));
    });
  const close = async () => {
    const ended = new Promise((end) => browser.once('exit', end));
    await call('browser.close');
    await ended;
  };
  return { call, close };
}

/** Trains in the demo and resolves with what its page says. */
async function train({ call }, url) {
  const { contexts } = await call('browsingContext.getTree');
  const { context } = contexts[0];
  const evaluate = async (expression) => {
    const answer = await call('script.evaluate', { expression, target: { context }, awaitPromise: true });
    if (answer.type === 'exception') throw new Error(answer.exceptionDetails.text);
    return answer.result.value;
  };
  const textOf = (id) => evaluate(`document.getElementById('${id}').innerText`);
  const until = async (id, pattern) => {
    for (let i = 0; i < 600; i++) {
      if (await evaluate(`!document.getElementById('error').hidden`)) throw new Error(await textOf('error'));
      if (pattern.test(await textOf(id))) return;
      await new Promise((done) => setTimeout(done, 200));
    }
    throw new Error(`#${id} is '${await textOf(id)}' after two minutes`);
  };
  await call('browsingContext.navigate', { context, url, wait: 'complete' });
  await until('before-score', /\d\/8/);
  await evaluate(`document.getElementById('train-button').click()`);
  await until('after-score', /\d\/8/);
  const { data } = await call('browsingContext.captureScreenshot', { context, origin: 'document' });
  mkdirSync(`${root}/test-artifacts`, { recursive: true });
  writeFileSync(`${root}/test-artifacts/demo-firefox.png`, Buffer.from(data, 'base64'));
  return {
    browser: await evaluate('navigator.userAgent'),
    device: await textOf('device'),
    advice: await textOf('device-advice'),
    loss: Number(await textOf('loss')),
    score: await textOf('after-score'),
    perStep: await textOf('step-time'),
  };
}

/** What undoes the headers of isolation. */
const NOT_ISOLATED = {
  'Cross-Origin-Opener-Policy': 'unsafe-none',
  'Cross-Origin-Embedder-Policy': 'unsafe-none',
};

/** @param isolated whether the page is sent with the headers that allow threads */
async function check(isolated) {
  const server = await preview({
    configFile: `${root}/demo/vite.config.ts`,
    logLevel: 'error',
    preview: { port: 0, ...(!isolated && { headers: NOT_ISOLATED }) },
  });
  const profile = mkdtempSync(join(tmpdir(), 'webtinker-firefox-'));
  try {
    const firefox = await openFirefox(profile);
    await firefox.call('session.new', { capabilities: {} });
    try {
      const found = await train(firefox, `${server.resolvedUrls.local[0]}?steps=10`);
      console.log(JSON.stringify(found));
      if (!(found.loss < 0.1)) throw new Error(`the loss is ${found.loss} after 10 steps, not below 0.1`);
      const threads = isolated ? /WebGPU|\d threads/ : /WebGPU|1 thread$/;
      if (!threads.test(found.device)) throw new Error(`it computes on '${found.device}'`);
    } finally {
      await firefox.close();
    }
  } finally {
    rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
    await server.close();
  }
}

execFileSync(
  process.execPath,
  ['node_modules/vite/bin/vite.js', 'build', 'demo', '--config', 'demo/vite.config.ts', '--logLevel', 'warn'],
  { cwd: root, stdio: 'inherit' },
);
for (const isolated of [true, false]) await check(isolated);
process.exit(0);
