/** Cases of the programs of training: forward and backward with each loss, the optimizer, merging, scoring of prompts. */
import {
  forwardTrace,
  mergeTrace,
  optimizerTrace,
  promptTrace,
  trainTrace,
} from '../../engine/program/steps';
import { mergedName } from '../../engine/program/weights';
import { LOSSES, type LossName } from '../../kernels/loss/index';
import type { HostArray, RunValues } from '../../kernels/op';
import { runOn, type Case, type Launch, type States, type Subject } from '../case';
import { exact, near, nearInBlocks, within, type Check } from '../measure';
import type { F32, Random } from '../random';
import { batchOf, matricesOf, modelOf, type TestModel } from './model';

/**
 * Bounds of whole programs: of log-probabilities a third of what the project allows against PyTorch (1e-4), of gradients
 * a thirtieth (1e-3), relative to the largest of their matrix. Sums of many sums have no simple magnitude; these are
 * three and six times the worst of hundreds of models on a software adapter. Logits of ±20, as random models have them,
 * are rounded to 1e-6 in every layer.
 */
export const LOGPROB = 3e-5;
const GRADIENT = 3e-5;

/** A case of one launch. */
function launchCase(
  about: Case['about'],
  states: States,
  launch: Launch,
  checks: Case['checks'],
  read: readonly string[] = [],
): Case {
  return { about, traces: [launch.trace], checks, run: (device) => runOn(device, states, [launch], read) };
}

interface Step {
  readonly states: States;
  readonly inputs: Readonly<Record<string, HostArray>>;
  readonly values: RunValues;
  readonly about: Case['about'];
  readonly old: F32;
}

/** A batch with K targets a token, and what the losses read. */
function stepOf(random: Random, { config, weights, params, about }: TestModel, lossFn: LossName): Step {
  const { T, lengths, inputs } = batchOf(random, config);
  const K = lossFn === 'cross_entropy' ? random.pick([1, 1, 3]) : 1;
  const C = T * K;
  // near a uniform guess, where the ratios of the losses stay within their bounds now and then
  const old = Float32Array.from({ length: C }, () => -Math.log(config.vocabSize) + 0.5 * random.normal());
  const weightsOrAdvantages = random.values(C, random.pick(['normal', 'sparse']));
  const ofLoss: Record<string, HostArray> = {};
  for (const { name } of LOSSES[lossFn].inputs) {
    ofLoss[name] = name === 'logprobs' ? old : weightsOrAdvantages;
  }
  return {
    states: { constants: weights, states: { 'lora.params': params } },
    inputs: { ...inputs, targets: random.ids(C, config.vocabSize), ...ofLoss },
    values: { T, C, clip_low_threshold: 0.01, clip_high_threshold: 100, beta: 0.1 },
    about: { ...about, lengths, K },
    old,
  };
}

/** Terms of the loss carry ρ = exp(lp − old): an error in lp is a relative error of the term. */
const lossCheck: Check = (ours, oracle, all) =>
  near(LOGPROB * 2 ** 24, (i) => 1 + Math.abs(oracle[i]!))(ours, oracle, all);

function forwardSubject(lossFn: LossName): Subject {
  return {
    kind: 'program',
    name: `forward.${lossFn}`,
    generate(random) {
      const model = modelOf(random);
      const { states, inputs, values, about } = stepOf(random, model, lossFn);
      // also of the base model alone
      const adapter = random.chance(0.3) ? null : model.adapter;
      const trace = forwardTrace({ config: model.config, adapter }, lossFn);
      return launchCase(
        { ...about, adapted: adapter !== null },
        states,
        { trace, values, inputs, read: ['logprob', 'loss'] },
        { logprob: within(LOGPROB), loss: lossCheck },
      );
    },
  };
}

function trainSubject(lossFn: LossName): Subject {
  return {
    kind: 'program',
    name: `train.${lossFn}`,
    generate(random) {
      const model = modelOf(random);
      const { config, adapter } = model;
      const { states, inputs, values, about } = stepOf(random, model, lossFn);
      // gradients are added to what was there; now and then the loss breaks and they are taken back
      const has_saved = random.int(0, 1);
      const grads = has_saved
        ? random.values(adapter.length, 'normal', 1e-3)
        : new Float32Array(adapter.length);
      const broken = random.chance(0.15);
      if (broken) {
        const spoiled = Object.values(inputs).at(-1)!;
        spoiled[random.int(0, spoiled.length - 1)] = NaN;
      }
      const trace = trainTrace({ config, adapter }, lossFn);
      return launchCase(
        { ...about, has_saved, broken },
        {
          ...states,
          states: {
            ...states.states,
            'lora.grads': grads,
            'lora.saved': grads.slice(),
            'lora.fault': new Uint32Array(1),
          },
        },
        { trace, values: { ...values, has_saved, last: 1 }, inputs, read: ['logprob', 'loss'] },
        {
          logprob: within(LOGPROB),
          loss: lossCheck,
          'lora.fault': exact,
          'lora.grads': broken ? exact : nearInBlocks(GRADIENT, matricesOf(adapter)),
        },
        ['lora.fault', 'lora.grads'],
      );
    },
  };
}

function promptSubject(topk: boolean): Subject {
  return {
    kind: 'program',
    name: topk ? 'prompt.topk' : 'prompt',
    generate(random) {
      const { config, adapter, weights, params, about } = modelOf(random);
      const { T, lengths, inputs } = batchOf(random, config);
      const k = random.int(1, Math.min(config.vocabSize, 20));
      return launchCase(
        { ...about, lengths, ...(topk && { k }) },
        { constants: weights, states: { 'lora.params': params } },
        {
          trace: promptTrace({ config, adapter }, topk),
          values: { T, C: T, R: T * k },
          inputs: { ...inputs, targets: random.ids(T, config.vocabSize) },
          read: topk ? ['logprob', 'lse', 'ids', 'logits'] : ['logprob', 'lse'],
        },
        {
          logprob: within(LOGPROB),
          lse: within(LOGPROB),
          ...(topk && { logits: within(LOGPROB), ids: sameIds }),
        },
      );
    },
  };
}

/** Equal, but for ids whose logits are as good as equal: then their order, or which of them is the last, is open. */
const sameIds: Check = (ours, oracle, { oracle: all }) => {
  const logits = all['logits']!;
  const rows = all['lse']!.length;
  const k = logits.length / rows;
  const open = (i: number): boolean => {
    const close = (j: number): boolean =>
      Math.floor(j / k) === Math.floor(i / k) && Math.abs(logits[i]! - logits[j]!) <= 2 * LOGPROB;
    return i % k === k - 1 || close(i - 1) || close(i + 1);
  };
  const settled = ours.map((id, i) => (open(i) ? oracle[i]! : id));
  return exact(settled, oracle, { ours: {}, oracle: {} });
};

/** An update is small beside 1, and what is updated keeps its size. */
const updated: Check = (ours, oracle, all) => near(24, (i) => 1 + Math.abs(oracle[i]!))(ours, oracle, all);

const optimizerSubject: Subject = {
  kind: 'program',
  name: 'optim-step',
  generate(random) {
    const { adapter, params, about } = modelOf(random);
    const { length } = adapter;
    const step = random.pick([1, 2, 50]);
    const values = {
      lr: random.pick([1e-4, 5e-3]),
      beta1: 0.9,
      beta2: random.pick([0.95, 0.999]),
      eps: 1e-8,
      weight_decay: random.pick([0, 0.01]),
      clip: random.pick([0, 1]),
    };
    const broken = random.chance(0.15);
    const grads = random.values(length, random.pick(['normal', 'small']));
    if (broken) grads[random.int(0, length - 1)] = NaN;
    const first = step === 1;
    const states = {
      'lora.params': params,
      'lora.grads': grads,
      'lora.m': first ? new Float32Array(length) : random.values(length, 'normal', 0.1),
      'lora.v': first ? new Float32Array(length) : random.values(length, 'normal', 0.1).map((x) => x * x),
    };
    return launchCase(
      { ...about, step, ...values, broken },
      { states },
      {
        trace: optimizerTrace(adapter),
        values: { ...values, bias1: 1 - values.beta1 ** step, bias2: 1 - values.beta2 ** step },
        read: ['norm'],
      },
      {
        norm: nearInBlocks(1e-6),
        'lora.params': updated,
        'lora.grads': exact,
        'lora.m': updated,
        'lora.v': updated,
      },
      Object.keys(states),
    );
  },
};

const mergeSubject: Subject = {
  kind: 'program',
  name: 'merge',
  generate(random) {
    const { config, adapter, weights, params, about } = modelOf(random);
    const names = [...adapter.slots.keys()].map(mergedName);
    return launchCase(
      about,
      { constants: weights, states: { 'lora.params': params } },
      { trace: mergeTrace({ config, adapter }), values: {}, read: names },
      Object.fromEntries(names.map((name) => [name, nearInBlocks(1e-6)])),
    );
  },
};

const LOSS_NAMES = Object.keys(LOSSES) as LossName[];

export const trainingPrograms: readonly Subject[] = [
  ...LOSS_NAMES.map(forwardSubject),
  ...LOSS_NAMES.map(trainSubject),
  promptSubject(false),
  promptSubject(true),
  optimizerSubject,
  mergeSubject,
];
