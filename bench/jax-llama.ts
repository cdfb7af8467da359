/**
 * The peer of the training-step benchmark: the same Llama LoRA step written for jax-js, as one `jit` over
 * loss, gradient and AdamW. Base weights are arguments that are not differentiated.
 *
 * jax-js counts references: passing an array consumes it, `.ref` keeps it for another use.
 */
import { defaultDevice, getWebGPUDevice, jit, nn, numpy as np, tree, valueAndGrad } from '@jax-js/jax';
import {
  ADAM,
  ALPHA,
  BATCH,
  CONFIG,
  type LINEARS,
  RANK,
  TOKENS,
  type HostWeight,
  type LoraPair,
} from './tiny-llama';

type Arr = np.Array;
/** One LoRA pair: a (rank, inputs), b (outputs, rank). */
type Pair = { a: Arr; b: Arr };
type Adapter = Record<string, Pair>;
type Base = Record<string, Arr>;

/** How the adapter meets its base weight; both are the same function, and the faster one counts. */
export type LoraForm =
  /** x·Wᵀ + s·(x·Aᵀ)·Bᵀ */
  | 'separate'
  /** x·(W + s·B·A)ᵀ */
  | 'merged';

const SCALE = ALPHA / RANK;
const ROWS = BATCH * TOKENS;
const { hidden_size: WIDTH, num_attention_heads: HEADS, head_dim: HEAD, vocab_size: VOCAB } = CONFIG;

function linear(x: Arr, weight: Arr, { a, b }: Pair, form: LoraForm): Arr {
  if (form === 'merged') {
    const merged = weight.add(np.matmul(b, a).mul(SCALE));
    return np.matmul(x, merged.transpose());
  }
  const down = np.matmul(x.ref, a.transpose());
  return np.matmul(x, weight.transpose()).add(np.matmul(down, b.transpose()).mul(SCALE));
}

function rmsNorm(x: Arr, gain: Arr): Arr {
  const square = np.mean(np.square(x.ref), -1, { keepdims: true });
  const inverse = np.reciprocal(np.sqrt(square.add(CONFIG.rms_norm_eps)));
  return x.mul(inverse).mul(gain);
}

/** Rotates pairs (i, i + HEAD/2) of x (BATCH, TOKENS, HEADS, HEAD); cos and sin (TOKENS, 1, HEAD/2). */
function rope(x: Arr, cos: Arr, sin: Arr): Arr {
  const [low, high] = np.split(x, 2, -1) as [Arr, Arr];
  const first = low.ref.mul(cos.ref).sub(high.ref.mul(sin.ref));
  const second = high.mul(cos).add(low.mul(sin));
  return np.concatenate([first, second], -1);
}

/** Sum over all tokens of −log p(target). Consumes its arguments. */
function loss(adapter: Adapter, base: Base, form: LoraForm): Arr {
  const rest = { ...base };
  const take = (name: string): Arr => {
    const array = rest[name]!;
    delete rest[name];
    return array;
  };
  const cos = take('cos');
  const sin = take('sin');
  const heads = (x: Arr): Arr => x.reshape([BATCH, TOKENS, HEADS, HEAD]);

  let x = np.take(take('model.embed_tokens.weight'), take('tokens'), 0);
  for (let layer = 0; layer < CONFIG.num_hidden_layers; layer++) {
    const prefix = `model.layers.${layer}`;
    const apply = (input: Arr, name: keyof typeof LINEARS): Arr =>
      linear(input, take(`${prefix}.${name}.weight`), adapter[`${prefix}.${name}`]!, form);

    const normed = rmsNorm(x.ref, take(`${prefix}.input_layernorm.weight`));
    const q = rope(heads(apply(normed.ref, 'self_attn.q_proj')), cos.ref, sin.ref);
    const k = rope(heads(apply(normed.ref, 'self_attn.k_proj')), cos.ref, sin.ref);
    const v = heads(apply(normed, 'self_attn.v_proj'));
    const attended = nn.dotProductAttention(q, k, v, { isCausal: true }).reshape([ROWS, WIDTH]);
    x = x.add(apply(attended, 'self_attn.o_proj'));

    const again = rmsNorm(x.ref, take(`${prefix}.post_attention_layernorm.weight`));
    const gate = apply(again.ref, 'mlp.gate_proj');
    const up = apply(again, 'mlp.up_proj');
    x = x.add(apply(nn.silu(gate).mul(up), 'mlp.down_proj'));
  }
  cos.dispose();
  sin.dispose();
  const final = rmsNorm(x, take('model.norm.weight'));
  const logits = linear(final, take('lm_head.weight'), adapter.lm_head!, form);
  const target = np.sum(logits.ref.mul(take('targets')));
  return np.sum(nn.logsumexp(logits, -1)).sub(target);
}

/** AdamW on one array: returns [parameter, first moment, second moment]. */
function adamW(p: Arr, g: Arr, m: Arr, v: Arr, correction1: Arr, correction2: Arr): [Arr, Arr, Arr] {
  const { learningRate, beta1, beta2, eps, weightDecay } = ADAM;
  const first = m.mul(beta1).add(g.ref.mul(1 - beta1));
  const second = v.mul(beta2).add(np.square(g).mul(1 - beta2));
  const update = first.ref.div(correction1).div(np.sqrt(second.ref.div(correction2)).add(eps));
  return [p.mul(1 - learningRate * weightDecay).sub(update.mul(learningRate)), first, second];
}

function makeStep(form: LoraForm) {
  return jit((adapter: Adapter, m: Adapter, v: Adapter, base: Base, correction1: Arr, correction2: Arr) => {
    const differentiated = (a: Adapter, b: Base): Arr => loss(a, b, form);
    const [value, gradient] = valueAndGrad(differentiated)(tree.ref(adapter), base) as [Arr, Adapter];
    const next: [Adapter, Adapter, Adapter] = [{}, {}, {}];
    for (const name of Object.keys(adapter)) {
      const pair = (side: 'a' | 'b'): [Arr, Arr, Arr] =>
        adamW(
          adapter[name]![side],
          gradient[name]![side],
          m[name]![side],
          v[name]![side],
          correction1.ref,
          correction2.ref,
        );
      const a = pair('a');
      const b = pair('b');
      next.forEach((t, i) => (t[name] = { a: a[i]!, b: b[i]! }));
    }
    correction1.dispose();
    correction2.dispose();
    return { loss: value, adapter: next[0], m: next[1], v: next[2] };
  });
}

function upload({ shape, data }: HostWeight): Arr {
  return np.array(data, { shape: [...shape] });
}

/** Everything of `base` that is not a weight: rotary tables, token ids, one-hot targets. */
function batchArrays(tokens: readonly (readonly number[])[]): Base {
  const half = HEAD / 2;
  const cos = new Float32Array(TOKENS * half);
  const sin = new Float32Array(TOKENS * half);
  for (let t = 0; t < TOKENS; t++) {
    for (let i = 0; i < half; i++) {
      const angle = t * CONFIG.rope_theta ** (-i / half);
      cos[t * half + i] = Math.cos(angle);
      sin[t * half + i] = Math.sin(angle);
    }
  }
  const ids = new Int32Array(ROWS);
  const oneHot = new Float32Array(ROWS * VOCAB);
  tokens.forEach((row, b) => {
    for (let t = 0; t < TOKENS; t++) {
      ids[b * TOKENS + t] = row[t]!;
      oneHot[(b * TOKENS + t) * VOCAB + row[t + 1]!] = 1;
    }
  });
  return {
    cos: np.array(cos, { shape: [TOKENS, 1, half] }),
    sin: np.array(sin, { shape: [TOKENS, 1, half] }),
    tokens: np.array(ids, { shape: [ROWS], dtype: np.int32 }),
    targets: np.array(oneHot, { shape: [ROWS, VOCAB] }),
  };
}

/** A LoRA training run of the tiny Llama in jax-js. */
export class JaxLlama {
  readonly #base: Base;
  readonly #step;
  #adapter: Adapter;
  #m: Adapter;
  #v: Adapter;
  #t = 0;

  /** `lora`: the initial pairs, by the name of their linear */
  constructor(
    weights: ReadonlyMap<string, HostWeight>,
    lora: ReadonlyMap<string, LoraPair>,
    tokens: readonly (readonly number[])[],
    form: LoraForm,
  ) {
    this.#base = batchArrays(tokens);
    for (const [name, weight] of weights) this.#base[name] = upload(weight);
    const zeros = ({ shape }: HostWeight): Arr => np.zeros([...shape]);
    const each = (make: (w: HostWeight) => Arr): Adapter =>
      Object.fromEntries([...lora].map(([name, { a, b }]) => [name, { a: make(a), b: make(b) }]));
    this.#adapter = each(upload);
    this.#m = each(zeros);
    this.#v = each(zeros);
    this.#step = makeStep(form);
  }

  /** One step of forward, backward and AdamW; returns the loss (a sum over tokens) when all of it is done. */
  async step(): Promise<number> {
    this.#t++;
    const scalar = (beta: number): Arr => np.array(1 - beta ** this.#t);
    const out = this.#step(
      this.#adapter,
      this.#m,
      this.#v,
      tree.ref(this.#base),
      scalar(ADAM.beta1),
      scalar(ADAM.beta2),
    );
    this.#adapter = out.adapter;
    this.#m = out.m;
    this.#v = out.v;
    // reading one result submits the whole step; waiting for each array would be one more readback apiece
    const value = ((await out.loss.data()) as Float32Array)[0]!;
    if (defaultDevice() === 'webgpu') await getWebGPUDevice().queue.onSubmittedWorkDone();
    return value;
  }

  dispose(): void {
    for (const t of [this.#base, this.#adapter, this.#m, this.#v]) tree.dispose(t);
    this.#step.dispose();
  }
}
