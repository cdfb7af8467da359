import type { ServiceClientOptions } from '../src/index';

/** What may compute in a page. */
export const DEVICES = ['auto', 'webgpu', 'wasm'] as const;
export type Device = NonNullable<ServiceClientOptions['device']>;

/** The device that the address asks for. */
export function deviceFrom(search: string): Device {
  const wanted = new URLSearchParams(search).get('device');
  return DEVICES.find((device) => device === wanted) ?? 'auto';
}

/** The settings of a run, kept in the address so that a link repeats it. */
export interface Settings {
  /** LoRA rank, a power of two */
  rank: number;
  learningRate: number;
  /** optimizer steps of one press of Train */
  steps: number;
}

export const RANKS = [1, 2, 4, 8, 16, 32, 64, 128, 256];
/** Found by trying rates and seeds on the default model: enough to learn all seven examples by heart. */
export const DEFAULTS: Readonly<Settings> = { rank: 32, learningRate: 5e-3, steps: 20 };
export const MAX_STEPS = 10_000;

/** Reads the settings; what is absent or out of range takes its default. */
export function settingsFrom(search: string): Settings {
  const params = new URLSearchParams(search);
  const number = (name: string, fallback: number, ok: (n: number) => boolean) => {
    const value = Number(params.get(name) ?? NaN);
    return ok(value) ? value : fallback;
  };
  return {
    rank: number('rank', DEFAULTS.rank, (n) => RANKS.includes(n)),
    learningRate: number('lr', DEFAULTS.learningRate, isLearningRate),
    steps: number('steps', DEFAULTS.steps, isStepCount),
  };
}

export const isLearningRate = (n: number) => Number.isFinite(n) && n > 0 && n <= 1;
export const isStepCount = (n: number) => Number.isInteger(n) && n >= 1 && n <= MAX_STEPS;

/** Writes the settings into the address without a new history entry. */
export function putInUrl({ rank, learningRate, steps }: Settings): void {
  const params = new URLSearchParams(location.search);
  params.set('rank', String(rank));
  params.set('lr', String(learningRate));
  params.set('steps', String(steps));
  history.replaceState(null, '', `?${params}`);
}
