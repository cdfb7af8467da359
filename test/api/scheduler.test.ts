/** Order of jobs: one after the other per model, side by side between models. */
import { expect, it } from 'vitest';
import { AbortedError } from '../../src/api/contract/errors';
import { Scheduler } from '../../src/engine/scheduler';

const sleep = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));

/** A job that notes when it starts and ends. */
function jobs() {
  const log: string[] = [];
  const job = (name: string, ms: number) => async (): Promise<string> => {
    log.push(`${name}>`);
    await sleep(ms);
    log.push(`<${name}`);
    return name;
  };
  return { log, job };
}

it('runs the jobs of one model in call order, however long each takes', async () => {
  const { log, job } = jobs();
  const scheduler = new Scheduler();
  const results = [30, 1, 10, 0].map((ms, i) => scheduler.run('m', job(String(i), ms)));
  expect(await Promise.all(results)).toEqual(['0', '1', '2', '3']);
  expect(log).toEqual(['0>', '<0', '1>', '<1', '2>', '<2', '3>', '<3']);
});

it('lets another model run meanwhile', async () => {
  const { log, job } = jobs();
  const scheduler = new Scheduler();
  await Promise.all([
    scheduler.run('a', job('a', 60)),
    scheduler.run('b', job('b', 1)),
    scheduler.run('b', job('c', 1)),
  ]);
  expect(log).toEqual(['a>', 'b>', '<b', 'c>', '<c', '<a']);
});

it('goes on after a job that fails, by rejection or by throwing at once', async () => {
  const scheduler = new Scheduler();
  const failed = scheduler.run('m', () => Promise.reject(new Error('one')));
  const threw = scheduler.run('m', () => {
    throw new Error('two');
  });
  const fine = scheduler.run('m', () => Promise.resolve(3));
  await expect(failed).rejects.toThrow('one');
  await expect(threw).rejects.toThrow('two');
  expect(await fine).toBe(3);
});

it('starts the next job when the running one releases its turn, once', async () => {
  const { log, job } = jobs();
  const scheduler = new Scheduler();
  const first = scheduler.run('m', async (release) => {
    await job('submit', 1)();
    release();
    release();
    await job('read', 40)();
  });
  await Promise.all([first, scheduler.run('m', job('b', 5)), scheduler.run('m', job('c', 1))]);
  expect(log.indexOf('b>')).toBeLessThan(log.indexOf('<read'));
  expect(log.indexOf('c>')).toBeGreaterThan(log.indexOf('<b'));
});

it('takes jobs queued by a running job, and starts again after being empty', async () => {
  const scheduler = new Scheduler();
  const order: number[] = [];
  const note = (i: number): Promise<void> => Promise.resolve(void order.push(i));
  let inner: Promise<void> | undefined;
  await scheduler.run('m', async () => {
    inner = scheduler.run('m', () => note(2));
    await sleep(1);
    order.push(1);
  });
  await inner;
  await scheduler.run('m', () => note(3));
  expect(order).toEqual([1, 2, 3]);
});

it('rejects what waits when disposed, at once, and lets the running job end', async () => {
  const { log, job } = jobs();
  const scheduler = new Scheduler();
  const running = scheduler.run('m', job('a', 30));
  const waiting = scheduler.run('m', job('b', 1));
  scheduler.dispose();
  await expect(waiting).rejects.toThrow(AbortedError);
  expect(log).toEqual(['a>']);
  await expect(scheduler.run('m', job('c', 1))).rejects.toThrow(AbortedError);
  expect(await running).toBe('a');
  expect(log).toEqual(['a>', '<a']);
});
