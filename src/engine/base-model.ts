/** A base model on a device: one copy of its weights, shared by every training run and sampler on it. */
import type { ProgressEvent, TokenizerPayload } from '../api/contract/types';
import type { DecoderConfig } from '../models/config';
import type { LoadedModel } from '../models/load';
import type { Buffers, Device, DeviceBuffer } from './devices/device';
import { PlanCache } from './plans';
import { stackWeights } from './program/weights';

export class BaseModel {
  private constructor(
    readonly device: Device,
    readonly name: string,
    readonly config: DecoderConfig,
    /** the parsed config.json, whole */
    readonly configJson: unknown,
    readonly tokenizer: TokenizerPayload,
    /** frozen weights by state name: constants of every plan */
    readonly weights: Buffers,
    /** plans of every kind of step on this model */
    readonly plans: PlanCache,
  ) {}

  /**
   * Uploads a loaded model.
   * Takes its tensors out of it.
   * @throws OutOfMemoryError
   */
  static upload(
    device: Device,
    { name, config, configJson, tensors, tokenizer }: LoadedModel,
    onProgress: (event: ProgressEvent) => void = () => undefined,
  ): Promise<BaseModel> {
    const { memory } = device;
    const upload = (): BaseModel => {
      const buffers: Record<string, DeviceBuffer> = {};
      const total = tensors.size;
      let loaded = 0;
      for (const weight of stackWeights(config, tensors)) {
        buffers[weight.name] = memory.adopt(`${name}.${weight.name}`, joined(weight.parts));
        // the host need not hold a model twice
        for (const tensor of weight.tensors) tensors.delete(tensor);
        loaded += weight.parts.length;
        onProgress({ phase: 'upload', what: name, loaded: Math.min(loaded, total), total });
      }
      const plans = new PlanCache(device, buffers);
      return new BaseModel(device, name, config, configJson, tokenizer, buffers, plans);
    };
    return memory.allocate(`the weights of ${name}`, upload);
  }

  /** Longest sequence, in tokens. */
  get contextLength(): number {
    return this.config.maxPositionEmbeddings;
  }
}

/** Arrays one after the other; a single one as it is. */
function joined(parts: readonly Float32Array<ArrayBuffer>[]): Float32Array<ArrayBuffer> {
  if (parts.length === 1) return parts[0]!;
  const whole = new Float32Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
