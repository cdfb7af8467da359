/** A base model on the GPU: one copy of its weights, shared by every training run and sampler on it. */
import type { ProgressEvent, TokenizerPayload } from '../api/contract/types';
import type { DecoderConfig } from '../models/config';
import type { LoadedModel } from '../models/load';
import type { GpuContext } from './devices/webgpu/plan';
import { PlanCache } from './plans';
import { stackWeights } from './program/weights';

export class BaseModel {
  private constructor(
    readonly context: GpuContext,
    readonly name: string,
    readonly config: DecoderConfig,
    readonly tokenizer: TokenizerPayload,
    /** by state name */
    readonly buffers: Readonly<Record<string, GPUBuffer>>,
    /** plans of every kind of step on this model */
    readonly plans: PlanCache,
  ) {}

  /**
   * Uploads a loaded model.
   * @throws OutOfMemoryError
   */
  static upload(
    context: GpuContext,
    { name, config, tensors, tokenizer }: LoadedModel,
    onProgress: (event: ProgressEvent) => void = () => undefined,
  ): Promise<BaseModel> {
    const { memory } = context;
    const upload = (): BaseModel => {
      const buffers: Record<string, GPUBuffer> = {};
      const total = tensors.size;
      let loaded = 0;
      for (const weight of stackWeights(config, tensors)) {
        const bytes = weight.parts.reduce((n, p) => n + p.byteLength, 0);
        const buffer = memory.storage(`${name}.${weight.name}`, bytes);
        let at = 0;
        for (const part of weight.parts) {
          memory.write(buffer, at, part);
          at += part.byteLength;
        }
        buffers[weight.name] = buffer;
        loaded += weight.parts.length;
        onProgress({ phase: 'upload', what: name, loaded: Math.min(loaded, total), total });
      }
      return new BaseModel(context, name, config, tokenizer, buffers, new PlanCache(context));
    };
    return memory.allocate(`the weights of ${name}`, upload);
  }

  /** Longest sequence, in tokens. */
  get contextLength(): number {
    return this.config.maxPositionEmbeddings;
  }
}
