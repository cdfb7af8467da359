/** Turns at the GPU, by the order in which units start. */
import { expect, it } from 'vitest';
import { AbortedError } from '../../src/api/contract/errors';
import { Turns } from '../../src/engine/turns';

/** Turns whose units last until they are told to end, and a log of what started. */
function bench() {
  const turns = new Turns();
  const log: string[] = [];
  const running = new Map<string, () => void>();
  const queue = (client: string, name: string, options = {}): Promise<{ done: Promise<void> }> =>
    turns.submit(
      client,
      () => {
        log.push(name);
        return new Promise<void>((done) => running.set(name, done));
      },
      options,
    );
  const settle = (): Promise<void> => new Promise((done) => setTimeout(done));
  const end = async (name: string): Promise<void> => {
    running.get(name)!();
    await settle();
  };
  return { turns, log, queue, end, settle };
}

it('starts two units at once and the next when one ends', async () => {
  const { log, queue, end } = bench();
  for (const name of ['a1', 'a2', 'a3', 'a4']) void queue('a', name);
  expect(log).toEqual(['a1', 'a2']);
  await end('a2');
  expect(log).toEqual(['a1', 'a2', 'a3']);
  await end('a1');
  await end('a3');
  expect(log).toEqual(['a1', 'a2', 'a3', 'a4']);
});

it('gives the next turn to whom it is longest ago', async () => {
  const { log, queue, end } = bench();
  for (const name of ['a1', 'a2', 'a3', 'a4', 'a5']) void queue('a', name);
  void queue('b', 'b1');
  void queue('c', 'c1');
  void queue('b', 'b2');
  for (const name of ['a1', 'a2', 'b1', 'c1', 'a3', 'b2']) await end(name);
  expect(log).toEqual(['a1', 'a2', 'b1', 'c1', 'a3', 'b2', 'a4', 'a5']);
});

it('remembers turns of a client that queues one unit at a time', async () => {
  const { log, queue, end } = bench();
  void queue('slow', 's1');
  for (let i = 1; i <= 6; i++) void queue('fast', `f${i}`);
  await end('s1');
  void queue('slow', 's2');
  await end('f1');
  expect(log).toEqual(['s1', 'f1', 'f2', 's2']);
});

it('keeps no place for brief units, yet their turn', async () => {
  const { log, queue, end } = bench();
  void queue('a', 'a1');
  void queue('a', 'a2', { brief: true });
  void queue('a', 'a3');
  void queue('a', 'a4', { brief: true });
  expect(log).toEqual(['a1', 'a2', 'a3']);
  await end('a1');
  expect(log).toEqual(['a1', 'a2', 'a3', 'a4']);
});

it('drops units that wait when their signal fires, and no others', async () => {
  const { log, queue, end, settle } = bench();
  const gone = new AbortController();
  const units = ['a1', 'a2', 'a3', 'a4'].map((name, i) =>
    queue('a', name, i % 2 ? { signal: gone.signal } : {}),
  );
  void queue('b', 'b1', { signal: gone.signal }).catch(() => undefined);
  units[3]!.catch(() => undefined);
  gone.abort();
  await settle();
  await expect(units[3]).rejects.toThrow(AbortedError);
  await expect(units[1]).resolves.toBeDefined();
  await expect(queue('a', 'a5', { signal: gone.signal })).rejects.toThrow(AbortedError);
  await end('a1');
  await end('a2');
  expect(log).toEqual(['a1', 'a2', 'a3']);
});

it('goes on after units that fail or throw', async () => {
  const { turns, log, queue, settle } = bench();
  const fail = () => Promise.reject(new Error('no'));
  const boom = (): Promise<never> => {
    throw new Error('boom');
  };
  const failed = [fail, boom, fail, boom].map((start) => turns.submit('a', start));
  void queue('b', 'b1');
  for (const unit of failed) await expect((await unit).done).rejects.toThrow(/no|boom/);
  await settle();
  expect(log).toEqual(['b1']);
});
