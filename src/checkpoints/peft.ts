/**
 * Names and configuration of an adapter as Python's peft writes and reads them,
 * and the way between those and the engine's canonical names.
 * https://huggingface.co/docs/peft/developer_guides/checkpoint
 */
import type { AdapterDescription, AdapterMatrices, AdapterMatrix } from './catalog-types';

const LAYER = /^layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)\.lora_[AB]$/;
const HEAD = /^lm_head\.lora_[AB]$/;

/** Whether the engine has matrices of this name. */
export const isCanonical = (name: string): boolean => LAYER.test(name) || HEAD.test(name);

/** `layers.0.self_attn.q_proj.lora_A` → `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`. */
export const toPeftName = (name: string): string =>
  `base_model.model.${name.startsWith('layers.') ? 'model.' : ''}${name}.weight`;

/** The canonical name of a tensor in `adapter_model.safetensors`; undefined if the engine has no such matrix. */
export function fromPeftName(key: string): string | undefined {
  const prefix = 'base_model.model.';
  const suffix = '.weight';
  if (!key.startsWith(prefix) || !key.endsWith(suffix)) return undefined;
  let name = key.slice(prefix.length, -suffix.length);
  if (name.startsWith('model.')) {
    name = name.slice('model.'.length);
    // the service's own name for the unembedding
    const unembed = /^unembed_tokens(\.lora_[AB])$/.exec(name);
    if (unembed) name = `lm_head${unembed[1]}`;
    else if (!name.startsWith('layers.')) return undefined;
  } else if (!name.startsWith('lm_head.')) return undefined;
  return isCanonical(name) ? name : undefined;
}

/** `layers.0.self_attn.q_proj.lora_A` → `q_proj`. */
const moduleOf = (name: string): string => name.split('.').at(-2)!;

/** Which parts of a model these matrices adapt. */
export function partsOf(
  matrices: AdapterMatrices,
): Pick<AdapterDescription, 'trainAttn' | 'trainMlp' | 'trainUnembed'> {
  const names = [...matrices.keys()];
  return {
    trainAttn: names.some((name) => name.includes('.self_attn.')),
    trainMlp: names.some((name) => name.includes('.mlp.')),
    trainUnembed: names.some((name) => name.startsWith('lm_head.')),
  };
}

/** What `peft.PeftModel.from_pretrained` needs to know. */
export function adapterConfig(adapter: AdapterDescription, matrices: AdapterMatrices): string {
  const config = {
    peft_type: 'LORA',
    task_type: 'CAUSAL_LM',
    base_model_name_or_path: adapter.baseModel,
    revision: null,
    inference_mode: true,
    r: adapter.rank,
    lora_alpha: adapter.alpha,
    lora_dropout: 0,
    target_modules: [...new Set([...matrices.keys()].map(moduleOf))].sort(),
    bias: 'none',
    fan_in_fan_out: false,
    init_lora_weights: true,
    modules_to_save: null,
    layers_to_transform: null,
    layers_pattern: null,
    rank_pattern: {},
    alpha_pattern: {},
    use_rslora: false,
    use_dora: false,
  };
  return JSON.stringify(config, null, 2) + '\n';
}

/**
 * Checks that A (r, in) and B (out, r) come in pairs of the right rank.
 * @param fail is given the reason
 */
export function checkPairs(matrices: AdapterMatrices, rank: number, fail: (reason: string) => never): void {
  if (matrices.size === 0) fail('holds no LoRA matrices');
  for (const [name, matrix] of matrices) {
    const isA = name.endsWith('.lora_A');
    const partner = name.slice(0, -1) + (isA ? 'B' : 'A');
    if (!matrices.has(partner)) fail(`has '${name}' without '${partner}'`);
    const [rows, columns] = matrix.shape;
    if ((isA ? rows : columns) !== rank) {
      fail(`'${name}' of shape [${rows}, ${columns}] does not have the rank ${rank}`);
    }
  }
}

/** Scales every B, and so the update, by `factor`. */
export function scaleUpdate(matrices: AdapterMatrices, factor: number): AdapterMatrices {
  if (factor === 1) return matrices;
  const scaled = (matrix: AdapterMatrix): AdapterMatrix => ({
    shape: matrix.shape,
    data: matrix.data.map((x) => x * factor),
  });
  return new Map([...matrices].map(([name, m]) => [name, name.endsWith('.lora_B') ? scaled(m) : m]));
}
