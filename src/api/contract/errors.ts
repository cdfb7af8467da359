/**
 * Errors. One base with a stable `code`; the documented Tinker hierarchy below
 * it. The same JSON form crosses the worker and HTTP (`toWire` / `fromWire`),
 * so `instanceof` and `code` hold on both sides.
 *
 * To add an error: write the class, and add it to `CLASSES`.
 */

export interface ErrorOptions {
  cause?: unknown;
  /** HTTP-like body: `{ detail }` */
  body?: unknown;
}

/** Base of every error this library throws. */
export class TinkerError extends Error {
  override name = 'TinkerError';
  /** Stable machine-readable reason. */
  readonly code: string = 'tinker_error';
  /** Whether the same call may succeed if repeated. */
  readonly retryable: boolean = false;
}

/** Base of errors in answer to a request. */
export class APIError extends TinkerError {
  override name = 'APIError';
  override readonly code: string = 'api_error';
  /** What the service said, if anything. */
  readonly body: unknown;
  constructor(message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.body = options.body;
  }
}

/** No usable WebGPU on this page. */
export class WebGPUUnavailableError extends TinkerError {
  override name = 'WebGPUUnavailableError';
  override readonly code: string = 'webgpu_unavailable';
}

/** A buffer that the device cannot hold. */
export class OutOfMemoryError extends TinkerError {
  override name = 'OutOfMemoryError';
  override readonly code: string = 'out_of_memory';
}
