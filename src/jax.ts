/**
 * Custom losses that are differentiated for you, by [jax-js](https://jax-js.com): an entry of its own,
 * `webtinker/jax`, and an optional peer dependency. The engine does not use jax-js.
 */
import type * as jaxjs from '@jax-js/jax';
import type { numpy } from '@jax-js/jax';
import { BadRequestError, UnsupportedError } from './api/contract/errors';
import type { CustomLossFn } from './api/custom-loss';
import type { Datum } from './api/datum';

/** What a differentiable loss answers. */
export interface JaxLoss {
  /** a scalar */
  readonly loss: numpy.Array;
  /** scalars, put into the output's metrics under these names */
  readonly metrics?: Readonly<Record<string, numpy.Array | number>>;
}

/**
 * A loss written with jax-js. As everywhere in jax-js, using an array consumes it; `x.ref` keeps it for
 * another use.
 * @param data as given to `forwardBackwardCustom`
 * @param logprobs per datum, float32, of the shape of its targets
 */
export type JaxLossFn = (data: readonly Datum[], logprobs: numpy.Array[]) => JaxLoss;

type Jax = typeof jaxjs;

/** jax-js, with the backend that leaves the GPU to the engine. */
const DEVICE = 'wasm';
let started: Promise<Jax> | undefined;

/**
 * Makes a loss for `forwardBackwardCustom` out of a function that jax-js differentiates, in float32 on
 * the CPU (WebAssembly).
 * @throws UnsupportedError (through the future) where `@jax-js/jax` is not installed; BadRequestError where
 * the function does not answer `{ loss, metrics? }` of scalars
 */
export function jaxLoss(fn: JaxLossFn): CustomLossFn {
  return async (data, logprobs) => {
    started ??= start();
    started.catch(() => (started = undefined));
    const jax = await started;
    const { numpy: np, valueAndGrad } = jax;

    const scalar = (value: unknown, name: string): numpy.Array => {
      if (typeof value === 'number') return np.array(value);
      const array = value as numpy.Array | undefined;
      if (array?.shape?.length === 0) return array;
      throw new BadRequestError(`jaxLoss: ${name} must be a scalar jax-js array`);
    };
    const traced = (arrays: numpy.Array[]): [numpy.Array, Record<string, numpy.Array>] => {
      const { loss, metrics = {} } = fn(data, arrays);
      const named = Object.entries(metrics).map(([name, x]) => [name, scalar(x, `metrics.${name}`)]);
      return [scalar(loss, 'loss'), Object.fromEntries(named) as Record<string, numpy.Array>];
    };
    const arrays = logprobs.map(({ data: values, shape }) =>
      np.array(values as Float32Array<ArrayBuffer>, { shape: [...shape], device: DEVICE }),
    );
    const [[loss, metrics], gradients] = onDevice(jax, () => valueAndGrad(traced, { hasAux: true })(arrays));
    return {
      loss: await numberOf(loss),
      gradients: await Promise.all(gradients.map(floats)),
      metrics: Object.fromEntries(
        await Promise.all(
          Object.entries(metrics).map(async ([name, x]) => [name, await numberOf(x)] as const),
        ),
      ),
    };
  };
}

const floats = async (x: numpy.Array): Promise<Float32Array> => (await x.data()) as Float32Array;
const numberOf = async (x: numpy.Array): Promise<number> => (await floats(x))[0]!;

/** Runs `work` with arrays made out of numbers on the device of the others. */
function onDevice<T>({ defaultDevice }: Jax, work: () => T): T {
  const before = defaultDevice();
  defaultDevice(DEVICE);
  try {
    return work();
  } finally {
    defaultDevice(before);
  }
}

async function start(): Promise<Jax> {
  const jax = await import('@jax-js/jax').catch((cause: unknown) => {
    throw new UnsupportedError('webtinker/jax needs the package @jax-js/jax: npm install @jax-js/jax', {
      cause,
    });
  });
  const available = await jax.init(DEVICE);
  if (!available.includes(DEVICE)) {
    throw new UnsupportedError(`webtinker/jax: jax-js has no ${DEVICE} backend here`);
  }
  return jax;
}
