/**
 * Errors. One base with a stable `code`; the documented Tinker hierarchy below
 * it, then our own. The same JSON form crosses the worker and HTTP (`toWire` /
 * `fromWire`), so `instanceof` and `code` hold on both sides.
 *
 * To add an error: write the class, and add it to `CLASSES`.
 */

/** What any error of this library can be made with. */
export interface TinkerErrorOptions {
  cause?: unknown;
  /** what the service said; HTTP-like, e.g. `{ detail }` */
  body?: unknown;
  /** of `APIStatusError` itself; its subclasses know theirs */
  statusCode?: number;
  /** of `RequestFailedError` */
  requestId?: string;
  /** of `RequestFailedError` */
  category?: FailureCategory;
}

/** Whose fault a failed request is, as far as the service can tell. */
export type FailureCategory = 'unknown' | 'server' | 'user';

/** Base of every error this library throws. */
export class TinkerError extends Error {
  override name = 'TinkerError';
  /** Stable machine-readable reason. */
  readonly code: string = 'tinker_error';
  /** Whether the same call may succeed if repeated. */
  readonly retryable: boolean = false;
  constructor(message: string, options: TinkerErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
  }
}

/** Base of errors in answer to a request. */
export class APIError extends TinkerError {
  override name = 'APIError';
  override readonly code: string = 'api_error';
  /** What the service said, if anything. */
  readonly body: unknown;
  constructor(message: string, options: TinkerErrorOptions = {}) {
    super(message, options);
    this.body = options.body;
  }
}

/** An answer with an HTTP status of 4xx or 5xx, or its local equal. */
export class APIStatusError extends APIError {
  override name = 'APIStatusError';
  override readonly code: string = 'api_status';
  readonly statusCode: number;
  constructor(message: string, options: TinkerErrorOptions = {}) {
    super(message, { ...options, body: options.body ?? { detail: message } });
    this.statusCode = options.statusCode ?? 500;
  }
}

/** 400: the request is wrong; the message names the field. */
export class BadRequestError extends APIStatusError {
  override name = 'BadRequestError';
  override readonly code: string = 'bad_request';
  override readonly statusCode: number = 400;
}

/** 401: no key, or a wrong one. */
export class AuthenticationError extends APIStatusError {
  override name = 'AuthenticationError';
  override readonly code: string = 'authentication';
  override readonly statusCode: number = 401;
}

/** 402: the account must be paid for first. */
export class BillingError extends APIStatusError {
  override name = 'BillingError';
  override readonly code: string = 'billing';
  override readonly statusCode: number = 402;
}

/** 403: this key may not do that. */
export class PermissionDeniedError extends APIStatusError {
  override name = 'PermissionDeniedError';
  override readonly code: string = 'permission_denied';
  override readonly statusCode: number = 403;
}

/** 404: no such model, sampler or checkpoint. */
export class NotFoundError extends APIStatusError {
  override name = 'NotFoundError';
  override readonly code: string = 'not_found';
  override readonly statusCode: number = 404;
}

/** 409: it exists already, or is in another state. */
export class ConflictError extends APIStatusError {
  override name = 'ConflictError';
  override readonly code: string = 'conflict';
  override readonly statusCode: number = 409;
}

/** 422: well-formed, yet not acceptable. */
export class UnprocessableEntityError extends APIStatusError {
  override name = 'UnprocessableEntityError';
  override readonly code: string = 'unprocessable_entity';
  override readonly statusCode: number = 422;
}

/** 429: too many requests; wait and repeat. */
export class RateLimitError extends APIStatusError {
  override name = 'RateLimitError';
  override readonly code: string = 'rate_limit';
  override readonly retryable: boolean = true;
  override readonly statusCode: number = 429;
}

/** 5xx: the service, or the engine, failed; `cause` has the original error where it is known. */
export class InternalServerError extends APIStatusError {
  override name = 'InternalServerError';
  override readonly code: string = 'internal_server';
  override readonly retryable: boolean = true;
}

/** The service could not be reached. */
export class APIConnectionError extends APIError {
  override name = 'APIConnectionError';
  override readonly code: string = 'connection';
  override readonly retryable: boolean = true;
}

/** No answer in the time the caller gave. The request itself goes on. */
export class APITimeoutError extends APIConnectionError {
  override name = 'APITimeoutError';
  override readonly code: string = 'timeout';
}

/** The answer does not have the shape it should have. */
export class APIResponseValidationError extends APIError {
  override name = 'APIResponseValidationError';
  override readonly code: string = 'response_validation';
}

/** A request that was accepted and failed while it ran. */
export class RequestFailedError extends TinkerError {
  override name = 'RequestFailedError';
  override readonly code: string = 'request_failed';
  readonly requestId: string;
  readonly category: FailureCategory;
  constructor(message: string, options: TinkerErrorOptions = {}) {
    super(message, options);
    this.requestId = options.requestId ?? '';
    this.category = options.category ?? 'unknown';
  }
}

/** Part of the documented surface that this release does not have. */
export class UnsupportedError extends TinkerError {
  override name = 'UnsupportedError';
  override readonly code: string = 'unsupported';
}

/** A device that cannot be opened here; the message says what is missing and what to do. */
export class DeviceUnavailableError extends TinkerError {
  override name = 'DeviceUnavailableError';
  override readonly code: string = 'device_unavailable';
}

/** No usable WebGPU on this page. */
export class WebGPUUnavailableError extends DeviceUnavailableError {
  override name = 'WebGPUUnavailableError';
  override readonly code: string = 'webgpu_unavailable';
}

/** A buffer that the device cannot hold. */
export class OutOfMemoryError extends TinkerError {
  override name = 'OutOfMemoryError';
  override readonly code: string = 'out_of_memory';
}

/** Checkpoints cannot be written or read: no permission, no such place, a failing disk. */
export class StorageError extends TinkerError {
  override name = 'StorageError';
  override readonly code: string = 'storage';
}

/** No room for a checkpoint: the disk is full, or the browser's quota is. Earlier ones are untouched. */
export class StorageFullError extends StorageError {
  override name = 'StorageFullError';
  override readonly code: string = 'storage_full';
}

/** What computes went away (a driver reset, a GPU process that ended, a runtime that broke down) before this was done. */
export class DeviceLostError extends TinkerError {
  override name = 'DeviceLostError';
  override readonly code: string = 'device_lost';
  override readonly retryable: boolean = true;
}

/** The engine's worker ended; nothing it held can be reached any more. */
export class WorkerDiedError extends TinkerError {
  override name = 'WorkerDiedError';
  override readonly code: string = 'worker_died';
}

/** The caller gave up: an AbortSignal fired, or the client was disposed. */
export class AbortedError extends TinkerError {
  override name = 'AbortedError';
  override readonly code: string = 'aborted';
}

type ErrorClass = new (message: string, options?: TinkerErrorOptions) => TinkerError;

const CLASSES = {
  TinkerError,
  APIError,
  APIStatusError,
  BadRequestError,
  AuthenticationError,
  BillingError,
  PermissionDeniedError,
  NotFoundError,
  ConflictError,
  UnprocessableEntityError,
  RateLimitError,
  InternalServerError,
  APIConnectionError,
  APITimeoutError,
  APIResponseValidationError,
  RequestFailedError,
  UnsupportedError,
  DeviceUnavailableError,
  WebGPUUnavailableError,
  OutOfMemoryError,
  StorageError,
  StorageFullError,
  DeviceLostError,
  WorkerDiedError,
  AbortedError,
} satisfies Record<string, ErrorClass>;

const BY_STATUS: Readonly<Record<number, ErrorClass>> = {
  400: BadRequestError,
  401: AuthenticationError,
  402: BillingError,
  403: PermissionDeniedError,
  404: NotFoundError,
  409: ConflictError,
  422: UnprocessableEntityError,
  429: RateLimitError,
};

/** The error class of an HTTP status: the documented one, `InternalServerError` for 5xx, else `APIStatusError`. */
export function statusError(
  statusCode: number,
  message: string,
  options: TinkerErrorOptions = {},
): TinkerError {
  const Class = BY_STATUS[statusCode] ?? (statusCode >= 500 ? InternalServerError : APIStatusError);
  return new Class(message, { ...options, statusCode });
}

/** An error as plain JSON-safe data. */
export interface ErrorWire {
  /** class name */
  readonly name: string;
  readonly message: string;
  readonly code?: string;
  readonly stack?: string;
  readonly body?: unknown;
  readonly statusCode?: number;
  readonly requestId?: string;
  readonly category?: FailureCategory;
  readonly cause?: ErrorWire;
}

/** A chain of causes longer than this is cut: it may be a circle. */
const MAX_CAUSES = 8;

/** Any thrown value as data. Errors that are not ours keep name, message and stack. */
export function toWire(error: unknown, depth = 0): ErrorWire {
  if (!(error instanceof Error)) return { name: 'Error', message: String(error) };
  const wire = {
    name: error.name,
    message: error.message,
    ...(error.stack !== undefined && { stack: error.stack }),
    ...(error.cause !== undefined && depth < MAX_CAUSES && { cause: toWire(error.cause, depth + 1) }),
  };
  if (!(error instanceof TinkerError)) return wire;
  return {
    ...wire,
    code: error.code,
    ...(error instanceof APIError && error.body !== undefined && { body: error.body }),
    ...(error instanceof APIStatusError && { statusCode: error.statusCode }),
    ...(error instanceof RequestFailedError && { requestId: error.requestId, category: error.category }),
  };
}

/**
 * The error that `toWire` wrote: same class, code, message, stack and fields.
 * A library error that is not in `CLASSES` comes back as a `TinkerError` of its name and code.
 */
export function fromWire(wire: ErrorWire): Error {
  const cause = wire.cause && fromWire(wire.cause);
  const Class = Object.hasOwn(CLASSES, wire.name) ? CLASSES[wire.name as keyof typeof CLASSES] : undefined;
  const { body, statusCode, requestId, category } = wire;
  const options: TinkerErrorOptions = {
    ...(cause && { cause }),
    ...(body !== undefined && { body }),
    ...(statusCode !== undefined && { statusCode }),
    ...(requestId !== undefined && { requestId }),
    ...(category !== undefined && { category }),
  };
  const Fallback = wire.code === undefined ? Error : TinkerError;
  const error = Class ? new Class(wire.message, options) : new Fallback(wire.message, options);
  if (!Class) Object.assign(error, { name: wire.name, ...(wire.code !== undefined && { code: wire.code }) });
  if (wire.stack !== undefined) error.stack = wire.stack;
  return error;
}

/** A `TinkerError` stays itself; anything else (an engine bug) becomes an `InternalServerError` with it as `cause`. */
export function asTinkerError(error: unknown): TinkerError {
  if (error instanceof TinkerError) return error;
  const message = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return new InternalServerError(message, { cause: error });
}
