/** APIFuture: waiting, timeouts, aborts, and rejections that nobody awaits. */
import { expect, it } from 'vitest';
import { AbortedError, APIFuture, APITimeoutError, BadRequestError } from '../../src/index';

const never = (): Promise<never> => new Promise(() => undefined);
const sleep = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));

it('gives its result to await, to result() and to Promise.all', async () => {
  const future = new APIFuture('m:1', Promise.resolve(7));
  expect(future.requestId).toBe('m:1');
  expect(await future).toBe(7);
  expect(await future.result({ timeoutMs: 1000, signal: new AbortController().signal })).toBe(7);
  expect(await Promise.all([future, Promise.resolve(8)])).toEqual([7, 8]);
});

it('gives its error to all of them', async () => {
  const future = new APIFuture('m:1', Promise.reject(new BadRequestError('no')));
  await expect(future).rejects.toThrow(BadRequestError);
  await expect(future.result({ timeoutMs: 1000 })).rejects.toThrow('no');
  expect(await future.catch(() => 'caught')).toBe('caught');
  // as with a promise, a callback may say that it takes errors
  expect(await future.catch((error: Error) => error.message)).toBe('no');
});

it('stops waiting after the timeout, naming the request', async () => {
  const waited = new APIFuture('m:5', never()).result({ timeoutMs: 20 });
  await expect(waited).rejects.toThrow(APITimeoutError);
  await expect(waited).rejects.toThrow('m:5');
});

it('can be awaited again after a timeout', async () => {
  const future = new APIFuture(
    'm:1',
    sleep(60).then(() => 'late'),
  );
  await expect(future.result({ timeoutMs: 5 })).rejects.toThrow(APITimeoutError);
  expect(await future).toBe('late');
});

it('stops waiting when the signal fires, or has fired already', async () => {
  const controller = new AbortController();
  const waited = new APIFuture('m:1', never()).result({ signal: controller.signal });
  controller.abort('enough');
  await expect(waited).rejects.toMatchObject({ name: 'AbortedError', code: 'aborted', cause: 'enough' });
  await expect(new APIFuture('m:2', never()).result({ signal: controller.signal })).rejects.toThrow(
    AbortedError,
  );
});

it('gives the request up when the signal of a result fires, not when a timeout passes', async () => {
  const reasons: unknown[] = [];
  const future = new APIFuture('m:1', never(), (reason) => reasons.push(reason));
  await expect(future.result({ timeoutMs: 5 })).rejects.toThrow(APITimeoutError);
  expect(reasons).toEqual([]);
  await expect(future.result({ signal: AbortSignal.abort('enough') })).rejects.toThrow(AbortedError);
  expect(reasons).toEqual(['enough']);
});

it('raises no unhandledrejection', async () => {
  const unhandled: unknown[] = [];
  const listen = (event: PromiseRejectionEvent): void => {
    event.preventDefault();
    unhandled.push(event.reason);
  };
  addEventListener('unhandledrejection', listen);
  new APIFuture('m:1', Promise.reject(new Error('nobody looks')));
  await sleep(100);
  removeEventListener('unhandledrejection', listen);
  expect(unhandled).toEqual([]);
});
