/** The error hierarchy, and its wire form there and back. */
import { describe, expect, it } from 'vitest';
import * as errors from '../../src/api/contract/errors';

type Class = new (message: string, options?: errors.TinkerErrorOptions) => errors.TinkerError;
const { asTinkerError, fromWire, statusError, toWire } = errors;
const classes = Object.values<unknown>(errors).filter((value): value is Class =>
  /^class/.test(String(value)),
);

/** What HTTP would do to it. */
const throughJson = (error: unknown): Error =>
  fromWire(JSON.parse(JSON.stringify(toWire(error))) as errors.ErrorWire);

describe('the hierarchy', () => {
  it('is the documented one', () => {
    const parents: [Class, Class][] = [
      [errors.APIError, errors.TinkerError],
      [errors.APIStatusError, errors.APIError],
      [errors.BadRequestError, errors.APIStatusError],
      [errors.RateLimitError, errors.APIStatusError],
      [errors.InternalServerError, errors.APIStatusError],
      [errors.APIConnectionError, errors.APIError],
      [errors.APITimeoutError, errors.APIConnectionError],
      [errors.APIResponseValidationError, errors.APIError],
      [errors.RequestFailedError, errors.TinkerError],
    ];
    for (const [child, parent] of parents) expect(new child('x')).toBeInstanceOf(parent);
  });

  it('gives every class a name and a code of its own', () => {
    const made = classes.map((C) => new C('x'));
    expect(made.length).toBeGreaterThan(20);
    expect(made.map(({ name }) => name)).toEqual(classes.map(({ name }) => name));
    expect(new Set(made.map(({ code }) => code)).size).toBe(made.length);
  });

  it.each([
    [400, 'BadRequestError'],
    [401, 'AuthenticationError'],
    [402, 'BillingError'],
    [403, 'PermissionDeniedError'],
    [404, 'NotFoundError'],
    [409, 'ConflictError'],
    [422, 'UnprocessableEntityError'],
    [429, 'RateLimitError'],
    [500, 'InternalServerError'],
    [504, 'InternalServerError'],
    [418, 'APIStatusError'],
  ])('makes of status %i a %s', (status, name) => {
    expect(statusError(status, 'x')).toMatchObject({ name, statusCode: status, body: { detail: 'x' } });
  });
});

describe('the wire form', () => {
  it.each(classes.map((C) => [C.name, C] as const))('keeps %s', (_, C) => {
    const error = new C('what happened', { body: { detail: 'more' }, requestId: 'm:3', category: 'user' });
    const back = throughJson(error);
    expect(Object.getPrototypeOf(back)).toBe(C.prototype);
    expect({ ...back }).toEqual({ ...error });
    expect([back.message, back.stack]).toEqual([error.message, error.stack]);
  });

  it('keeps the status of a 5xx', () => {
    expect(throughJson(statusError(503, 'x'))).toMatchObject({
      name: 'InternalServerError',
      statusCode: 503,
    });
  });

  it('keeps causes, and cuts a circle of them', () => {
    const error = new errors.DeviceLostError('gone', { cause: new TypeError('why') });
    expect(throughJson(error).cause).toMatchObject({ name: 'TypeError', message: 'why' });
    const circle = new Error('round');
    circle.cause = circle;
    expect(throughJson(circle).message).toBe('round');
  });

  it('keeps name and code of a class it does not know', () => {
    class NewError extends errors.TinkerError {
      override name = 'NewError';
      override readonly code: string = 'new';
    }
    const back = throughJson(new NewError('x'));
    expect(back).toBeInstanceOf(errors.TinkerError);
    expect(back).toMatchObject({ name: 'NewError', code: 'new' });
  });
});

it('makes an engine bug an InternalServerError with the bug as its cause', () => {
  const bug = new RangeError('index');
  expect(asTinkerError(bug)).toMatchObject({ statusCode: 500, cause: bug, message: 'RangeError: index' });
  expect(asTinkerError('thrown text').message).toBe('thrown text');
  const own = new errors.NotFoundError('x');
  expect(asTinkerError(own)).toBe(own);
});
