/** Compiles kernels. A pipeline is keyed by its full source, so equal variants are shared. */
import { preludeOf, type Constant, type KernelSpec } from '../../../kernels/kernel';
import type { GpuCounters } from './counters';

export class KernelCompileError extends Error {
  override readonly name = 'KernelCompileError';
}

export class PipelineCache {
  readonly #pipelines = new Map<string, Promise<GPUComputePipeline>>();

  constructor(
    readonly device: GPUDevice,
    readonly counters: GpuCounters,
  ) {}

  /** Compiles (or joins the compilation of) a kernel variant. Different variants compile in parallel. */
  get(spec: KernelSpec, constants: Readonly<Record<string, Constant>> = {}): Promise<GPUComputePipeline> {
    const prelude = preludeOf(spec, constants);
    const source = prelude + spec.code;
    let pipeline = this.#pipelines.get(source);
    if (!pipeline) {
      pipeline = this.#compile(spec, prelude, source);
      this.#pipelines.set(source, pipeline);
    }
    return pipeline;
  }

  async #compile(spec: KernelSpec, prelude: string, source: string): Promise<GPUComputePipeline> {
    this.counters.pipelines++;
    const module = this.device.createShaderModule({ label: spec.name, code: source });
    try {
      return await this.device.createComputePipelineAsync({
        label: spec.name,
        layout: this.device.createPipelineLayout({ bindGroupLayouts: [this.#layout(spec)] }),
        compute: { module, entryPoint: 'main' },
      });
    } catch (cause) {
      const skip = prelude.split('\n').length - 1;
      const { messages } = await module.getCompilationInfo();
      const found = messages
        .filter((m) => m.type === 'error')
        .map((m) => `${spec.name}.wgsl:${m.lineNum - skip}:${m.linePos}: ${m.message}`);
      throw new KernelCompileError(
        `kernel ${spec.name} did not compile\n${found.join('\n') || String(cause)}\nwith the prelude\n${prelude}`,
        { cause },
      );
    }
  }

  /** Explicit, since `layout: 'auto'` drops bindings that a variant does not use. */
  #layout(spec: KernelSpec): GPUBindGroupLayout {
    const visibility = GPUShaderStage.COMPUTE;
    const entries: GPUBindGroupLayoutEntry[] = Object.values(spec.bindings).map(({ access }, binding) => ({
      binding,
      visibility,
      buffer: { type: access === 'read' ? 'read-only-storage' : 'storage' },
    }));
    if (Object.keys(spec.params).length > 0) {
      entries.push({ binding: entries.length, visibility, buffer: { type: 'uniform' } });
    }
    return this.device.createBindGroupLayout({ label: spec.name, entries });
  }
}
