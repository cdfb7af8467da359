/**
 * Cases of prefill and decode: merged weights on the one device, the adapter in parts on the other, and the same
 * tokens from the same seed wherever the logits agree.
 */
import type { Device } from '../../engine/devices/device';
import {
  decodeTrace,
  mergeTrace,
  prefillTrace,
  promptTrace,
  type DecodeCapacity,
} from '../../engine/program/steps';
import { mergedName } from '../../engine/program/weights';
import type { HostArray } from '../../kernels/op';
import { initialDecodeState } from '../../kernels/sample/sample';
import { runOn, type Case, type Launch, type Subject } from '../case';
import { exact, near, type Check, type Results } from '../measure';
import { drawOf, roundingOf, ruleOf, seedOf } from '../ops/sample';
import { plausibleTokens, type SamplingRule } from '../ops/plausible';
import { segmentsOf, type Random, type U32 } from '../random';
import { modelOf, type TestModel } from './model';
import { LOGPROB } from './training';

/** A sampling request. */
interface Request {
  readonly model: TestModel;
  readonly adapted: boolean;
  readonly prompt: U32;
  readonly capacity: DecodeCapacity;
  /** samples, and tokens of each */
  readonly B: number;
  readonly steps: number;
  readonly rule: SamplingRule;
  readonly seed: ReturnType<typeof seedOf>;
  readonly first: number;
  readonly stops: U32;
}

function requestOf(random: Random): Request {
  const model = modelOf(random);
  const [P, B, steps] = [random.int(1, 40), random.int(1, 4), random.int(2, 8)];
  const stops = random.ids(random.pick([0, 1, 3]), model.config.vocabSize);
  const capacity = {
    batch: 4,
    rows: P + B * steps + random.int(0, 9),
    steps: steps + random.int(0, 3),
    stops: 16,
  };
  return {
    model,
    adapted: random.chance(0.7),
    prompt: random.ids(P, model.config.vocabSize),
    capacity,
    B,
    steps,
    rule: ruleOf(random, model.config.vocabSize),
    seed: seedOf(random),
    first: random.int(0, 70),
    stops,
  };
}

/** The buffers of a request, as `engine/decode-context.ts` makes them. */
function statesOf({ model, prompt, capacity, B, steps, first, stops }: Request): Record<string, HostArray> {
  const { layers, kvHeads, headDim } = model.config;
  const P = prompt.length;
  const starts = Array.from({ length: B }, (_, b) => ({
    index: first + b,
    prefixStart: 0,
    prefixLength: P,
    ownStart: P + b * steps,
  }));
  const stop = new Uint32Array(capacity.stops);
  stop.set(stops);
  const states: Record<string, HostArray> = {
    decode: initialDecodeState(capacity.batch, starts),
    'out.tokens': new Uint32Array(capacity.batch * capacity.steps),
    'out.logprobs': new Float32Array(capacity.batch * capacity.steps),
    stop,
    'lora.params': model.params,
  };
  for (let i = 0; i < layers; i++) {
    for (const part of ['k', 'v']) {
      states[`cache.${part}.${i}`] = new Float32Array(capacity.rows * kvHeads * headDim);
    }
  }
  return states;
}

/** Prompt and samples, then the logits of every step from one forward pass over what was sampled. */
async function generate(device: Device, request: Request): Promise<Results> {
  const { model, adapted, prompt, capacity, B, steps, rule, seed, stops } = request;
  const { config, weights } = model;
  const adapter = adapted ? model.adapter : null;
  let constants = weights;
  if (adapter && device.mergesAdapters) {
    const names = [...adapter.slots.keys()].map(mergedName);
    const merge = { trace: mergeTrace({ config, adapter }), values: {}, read: names };
    const states = { constants: weights, states: { 'lora.params': model.params } };
    constants = { ...weights, ...((await runOn(device, states, [merge])) as TestModel['weights']) };
  }
  const sampling = { config, adapter, merged: device.mergesAdapters };
  const P = prompt.length;
  const values = { T: P, B, ...rule, ...seed, max_steps: steps, stop_count: stops.length };
  const inputs = {
    tokens: prompt,
    positions: Uint32Array.from({ length: P }, (_, t) => t),
    segments: segmentsOf([P]),
    rows: Uint32Array.from({ length: P }, (_, t) => t),
    last: Uint32Array.of(P - 1),
  };
  const read = ['state', 'tokens', 'logprobs'];
  const decode = decodeTrace(sampling, capacity);
  const launches: Launch[] = [{ trace: prefillTrace(sampling, capacity), values, inputs, read }];
  // several replays in a submit, as the engine has them, and single ones
  for (let left = steps - 1; left > 0;) {
    const repeat = Math.min(left, 1 + (launches.length % 3));
    launches.push({ trace: decode, values, repeat, read, resident: true });
    left -= repeat;
  }
  const { state, tokens, logprobs } = await runOn(device, { constants, states: statesOf(request) }, launches);
  return {
    state: state!,
    tokens: tokens!.slice(0, B * steps),
    logprobs: logprobs!.slice(0, B * steps),
    logits: await logitsOf(device, request, tokens as U32),
  };
}

/** (B, steps, V): the logits that each token of each sample was drawn from, whatever ended it. */
async function logitsOf(device: Device, request: Request, tokens: U32): Promise<Float32Array<ArrayBuffer>> {
  const { model, adapted, prompt, B, steps } = request;
  const { config, params, weights } = model;
  const [V, P] = [config.vocabSize, prompt.length];
  const length = P + steps - 1;
  const text = new Uint32Array(B * length);
  for (let b = 0; b < B; b++) {
    text.set(prompt, b * length);
    text.set(tokens.subarray(b * steps, b * steps + steps - 1), b * length + P);
  }
  const T = text.length;
  const { ids, logits } = await runOn(device, { constants: weights, states: { 'lora.params': params } }, [
    {
      trace: promptTrace({ config, adapter: adapted ? model.adapter : null }, true),
      values: { T, C: T, R: T * V },
      inputs: {
        tokens: text,
        positions: Uint32Array.from({ length: T }, (_, t) => t % length),
        segments: segmentsOf(Array.from<number>({ length: B }).fill(length)),
        targets: text,
      },
      read: ['ids', 'logits'],
    },
  ]);
  const all = new Float32Array(B * steps * V);
  for (let b = 0; b < B; b++) {
    for (let s = 0; s < steps; s++) {
      const row = (b * length + P - 1 + s) * V;
      for (let r = 0; r < V; r++) all[(b * steps + s) * V + ids![row + r]!] = logits![row + r]!;
    }
  }
  return all;
}

/** The tokens that count: of each sample those before its end, and before the two devices rightly part. */
function common(
  request: Request,
  ours: Results,
  oracle: Results,
): { readonly same: boolean[]; readonly wrong: boolean[] } {
  const { B, steps, rule, seed, first, stops, model } = request;
  const V = model.config.vocabSize;
  const same = new Array<boolean>(B * steps).fill(false);
  const wrong = new Array<boolean>(B * steps).fill(false);
  for (let b = 0; b < B; b++) {
    for (let s = 0; s < steps; s++) {
      const i = b * steps + s;
      const [a, z] = [ours['tokens']![i]!, oracle['tokens']![i]!];
      if (a !== z) {
        const logits = oracle['logits']!.subarray(i * V, (i + 1) * V);
        const right = plausibleTokens(logits, rule, drawOf(seed, s, first + b), LOGPROB, roundingOf(V));
        wrong[i] = right !== undefined && !(right.has(a) && right.has(z));
        break;
      }
      same[i] = true;
      if (stops.includes(z)) break;
    }
  }
  return { same, wrong };
}

function decodeCase(request: Request): Case {
  const { model, adapted, prompt, capacity, B, steps, rule, seed, stops } = request;
  const adapter = adapted ? model.adapter : null;
  const sampling = { config: model.config, adapter, merged: true };
  const tokens: Check = (ours, oracle, all) => {
    const { wrong } = common(request, all.ours, all.oracle);
    return exact(
      ours.map((token, i) => (wrong[i] ? token : oracle[i]!)),
      oracle,
      all,
    );
  };
  const logprobs: Check = (ours, oracle, all) => {
    const { same } = common(request, all.ours, all.oracle);
    const tau = rule.temperature || 1;
    return near((LOGPROB * 2 ** 24 * 2) / tau, 1)(
      ours.map((p, i) => (same[i] ? p : 0)),
      oracle.map((p, i) => (same[i] ? p : 0)),
      all,
    );
  };
  const state: Check = (ours, oracle, all) => {
    const { same } = common(request, all.ours, all.oracle);
    const agreed = all.ours['tokens']!.every((token, i) => same[i] || token === all.oracle['tokens']![i]);
    return exact(agreed ? ours : oracle, oracle, all);
  };
  return {
    about: { ...model.about, adapted, prompt: prompt.length, B, steps, ...rule, ...seed, stops: [...stops] },
    traces: [
      ...(adapter ? [mergeTrace({ config: model.config, adapter })] : []),
      prefillTrace(sampling, capacity),
      decodeTrace(sampling, capacity),
      promptTrace({ config: model.config, adapter }, true),
    ],
    checks: { tokens, logprobs, state },
    run: (device) => generate(device, request),
  };
}

export const decodingPrograms: readonly Subject[] = [
  { kind: 'program', name: 'prefill + decode', generate: (random) => decodeCase(requestOf(random)) },
];
