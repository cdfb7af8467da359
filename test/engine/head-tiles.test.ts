/**
 * The head over a vocabulary of several tiles, which no fixture model has: log-probabilities of several targets a
 * token, the likeliest tokens, and the backward pass with its LoRA gradients, against f64.
 */
import { expect, it } from 'vitest';
import { Plan } from '../../src/engine/devices/webgpu/plan';
import { LORA_ALPHA } from '../../src/api/contract/lora';
import { adapterLayout } from '../../src/engine/program/adapter';
import { headBackward, headForward, VOCABULARY_TILE } from '../../src/engine/program/head';
import { Trace } from '../../src/engine/trace';
import { topK } from '../../src/kernels/topk/topk';
import type { HostArray, TensorRef } from '../../src/kernels/op';
import { parseConfig } from '../../src/models/config';
import { expectClose, randomArray, relativeError } from '../support/compare';
import { gpu, guarded } from '../support/gpu';
import { PROFILES } from '../support/packed';
import { ranked } from '../support/sampling';

const [T, K, TOP, D, RANK] = [5, 3, 7, 8, 2];
const V = 2 * VOCABULARY_TILE + 300;
const EPS = 1e-5;
const SCALE = LORA_ALPHA / RANK;

const hidden = randomArray(T * D, 1);
const norm = randomArray(D, 2, 0.3).map((x) => 1 + x);
const weight = randomArray(V * D, 3);
const a = randomArray(RANK * D, 4, 0.3);
const b = randomArray(V * RANK, 5, 0.02);
// the ends of tiles, and a repeat
const targets = Uint32Array.from(
  { length: T * K },
  (_, i) =>
    [0, VOCABULARY_TILE - 1, VOCABULARY_TILE, VOCABULARY_TILE, V - 1, 2 * VOCABULARY_TILE, 77][i % 7]!,
);
const d = randomArray(T * K, 6);

/** Everything in f64. */
function reference() {
  const merged = Float64Array.from(weight, (w, i) => {
    const [v, c] = [Math.floor(i / D), i % D];
    let update = 0;
    for (let r = 0; r < RANK; r++) update += b[v * RANK + r]! * a[r * D + c]!;
    return w + SCALE * update;
  });
  const logprob: number[] = [];
  const best: number[][] = [];
  const dHidden = new Float64Array(T * D);
  const gradA = new Float64Array(RANK * D);
  const gradB = new Float64Array(V * RANK);
  for (let t = 0; t < T; t++) {
    const h = Array.from(hidden.subarray(t * D, (t + 1) * D));
    const rstd = 1 / Math.sqrt(h.reduce((s, x) => s + x * x, 0) / D + EPS);
    const n = h.map((x, c) => x * rstd * norm[c]!);
    const logits = Float64Array.from({ length: V }, (_, v) =>
      n.reduce((s, x, c) => s + x * merged[v * D + c]!, 0),
    );
    const top = logits.reduce((m, x) => Math.max(m, x), -Infinity);
    const lse = top + Math.log(logits.reduce((s, x) => s + Math.exp(x - top), 0));
    best.push(ranked(logits).slice(0, TOP));
    const ids = [...targets.subarray(t * K, (t + 1) * K)];
    const ds = [...d.subarray(t * K, (t + 1) * K)];
    ids.forEach((id) => logprob.push(logits[id]! - lse));
    const total = ds.reduce((x, y) => x + y, 0);
    const dLogits = logits.map((x) => -total * Math.exp(x - lse));
    ids.forEach((id, k) => (dLogits[id]! += ds[k]!));
    const dn = new Float64Array(D);
    const low = Array.from({ length: RANK }, (_, r) => n.reduce((s, x, c) => s + x * a[r * D + c]!, 0));
    for (let v = 0; v < V; v++) {
      for (let c = 0; c < D; c++) dn[c]! += dLogits[v]! * merged[v * D + c]!;
      for (let r = 0; r < RANK; r++) {
        gradB[v * RANK + r]! += SCALE * dLogits[v]! * low[r]!;
        for (let c = 0; c < D; c++) gradA[r * D + c]! += SCALE * b[v * RANK + r]! * dLogits[v]! * n[c]!;
      }
    }
    const scaled = Array.from(dn, (x, c) => x * norm[c]!);
    const dot = scaled.reduce((s, x, c) => s + x * h[c]!, 0) / D;
    scaled.forEach((x, c) => (dHidden[t * D + c] = rstd * (x - rstd * rstd * dot * h[c]!)));
  }
  return { logprob, best, dHidden, gradA, gradB };
}

for (const profile of PROFILES) {
  it(`three tiles of the vocabulary as one (${profile.kind})`, async () => {
    const expected = reference();
    const real = await gpu();
    const context = { ...real, profile: { ...real.profile, ...profile } };
    const config = parseConfig({
      architectures: ['LlamaForCausalLM'],
      model_type: 'llama',
      hidden_size: D,
      intermediate_size: 8,
      num_hidden_layers: 1,
      num_attention_heads: 1,
      num_key_value_heads: 1,
      vocab_size: V,
      max_position_embeddings: 16,
      rms_norm_eps: EPS,
      rope_theta: 10000,
      hidden_act: 'silu',
      tie_word_embeddings: true,
    });
    const adapter = adapterLayout(config, {
      rank: RANK,
      trainAttn: false,
      trainMlp: false,
      trainUnembed: true,
    });
    const model = { config, adapter };
    const trace = new Trace('head');
    const cells = trace.input('targets', ['C'], 'u32');
    let best: { ids?: TensorRef; best?: TensorRef } = {};
    const head = headForward(trace, model, trace.input('hidden', ['T', D], 'f32'), cells, (logits, start) => {
      best = trace.apply(topK, { logits, ids: best.ids, best: best.best }, { start });
    });
    expect(head.tiles).toHaveLength(3);
    trace.output('logprob', head.logprob);
    trace.output('ids', best.ids!);
    trace.output('dHidden', headBackward(trace, model, head, trace.input('d', ['C'], 'f32')));
    trace.output('grads', trace.state('lora.grads', [adapter.length], 'f32'));

    const slot = adapter.slots.get('lm_head')!;
    const flat = new Float32Array(adapter.length);
    flat.set(a, slot.a);
    flat.set(b, slot.b);
    const states = {
      norm: real.memory.upload('norm', norm),
      embed: real.memory.upload('embed', weight),
      'lora.params': real.memory.upload('params', flat),
      'lora.grads': real.memory.storage('grads', 4 * adapter.length),
    };
    const values = { T, C: T * K, R: T * TOP };
    const out = await guarded(context, async (): Promise<Record<string, HostArray>> => {
      const plan = await Plan.compile(context, trace, { T: T + 3, C: T * K + 9, R: T * TOP + 30 });
      const results = await plan.bind('test', states).run({
        values,
        inputs: { targets, d, hidden },
        read: ['logprob', 'ids', 'dHidden', 'grads'],
      });
      plan.dispose();
      return results;
    });
    for (const buffer of Object.values(states)) real.memory.free(buffer);

    expectClose(out['logprob']!, expected.logprob, { atol: 1e-5, rtol: 0 }, 'logprob');
    expect([...out['ids']!]).toEqual(expected.best.flat());
    expect(relativeError(out['dHidden']!, expected.dHidden), 'dHidden').toBeLessThan(1e-5);
    const grads = out['grads']!;
    const [gradA, gradB] = [
      grads.subarray(slot.a, slot.a + RANK * D),
      grads.subarray(slot.b, slot.b + V * RANK),
    ];
    expect(relativeError(gradA, expected.gradA), 'gradient of A').toBeLessThan(1e-5);
    expect(relativeError(gradB, expected.gradB), 'gradient of B').toBeLessThan(1e-5);
  });
}
