/** `sample` in plain code: the semantics of `sample.wgsl`, its draws and its books. */
import { sizeOf, type HostArray, type Node, type RunValues, type TensorRef } from '../op';
import { philox4x32, PHILOX_USE, unitFloat } from '../philox';
import { decodeStateLayout, DONE, NO_ROW } from './decode-state';
import { Distribution, type Rule } from './distribution';
import type { SampleAttrs, SampleInputs, SampleOutput } from './sample';

export function sampleHost(
  { inputs, attrs: { batch, sharedLogits } }: Node<SampleInputs, SampleOutput, SampleAttrs>,
  rule: Rule,
  array: (ref: TensorRef) => HostArray,
  v: RunValues,
): void {
  const logits = array(inputs.logits) as Float32Array;
  const vocabulary = inputs.logits.shape[1] as number;
  const [state, tokens, logprobs] = [
    array(inputs.state),
    array(inputs.out_tokens),
    array(inputs.out_logprobs),
  ];
  const stop = array(inputs.stop).subarray(0, sizeOf('stop_count', v));
  const steps = sizeOf('max_steps', v);
  const seed = [sizeOf('seed_lo', v), sizeOf('seed_hi', v)] as const;
  const at = decodeStateLayout(batch);
  const samples = sharedLogits ? sizeOf('B', v) : sizeOf(inputs.logits.shape[0]!, v);
  const row = (b: number): Distribution =>
    new Distribution(logits.subarray(b * vocabulary, (b + 1) * vocabulary), rule);
  let shared: Distribution | undefined;

  for (let b = 0; b < samples; b++) {
    if (state[at.done + b] !== DONE.running) continue;
    const step = state[at.steps + b]!;
    const [word] = philox4x32([step, state[at.indices + b]!, 0, PHILOX_USE.sample], seed);
    const distribution = sharedLogits ? (shared ??= row(0)) : row(b);
    const { token, logprob } = distribution.draw(unitFloat(word));
    tokens[b * steps + step] = token;
    logprobs[b * steps + step] = logprob;

    const slot = at.slots + 4 * b;
    const [prefixLength, ownStart, ownLength] = [state[slot + 1]!, state[slot + 2]!, state[slot + 3]!];
    let done: number = step + 1 >= steps ? DONE.length : DONE.running;
    if (stop.includes(token)) done = DONE.stop;
    state[at.tokens + b] = token;
    state[at.positions + b] = prefixLength + ownLength;
    state[at.steps + b] = step + 1;
    state[at.done + b] = done;
    state[at.rows + b] = done === DONE.running ? ownStart + ownLength : NO_ROW;
    state[slot + 3] = done === DONE.running ? ownLength + 1 : 0;
  }
}
