import { describe, expect, it } from 'vitest';
import {
  AbortedError,
  APIConnectionError,
  BadRequestError,
  InternalServerError,
  NotFoundError,
} from '../../src/api/contract/errors';
import { loadConfig, loadModel } from '../../src/models/load';
import { parseSafetensors, writeSafetensors } from '../../src/models/safetensors';
import { knownModels } from '../../src/models/sources';

const modelSources = { tied: '/test/fixtures/models/tied', absent: '/test/fixtures/models/absent/' };

/** The real files with some of them replaced. */
function replacing(files: Record<string, () => Response | Promise<Response>>): typeof fetch {
  return async (input, init) => {
    const url = input instanceof Request ? input.url : input;
    const stem = new URL(url).pathname.split('/').at(-1)!;
    return files[stem] ? files[stem]() : fetch(input, init);
  };
}

describe('loadModel', () => {
  it('loads the embedded model', async () => {
    const seen: number[] = [];
    const model = await loadModel('webtinker/pocket', {
      onProgress: ({ phase, what, loaded, total }) => {
        expect([phase, what]).toEqual(['download', 'webtinker/pocket']);
        expect(loaded).toBeLessThanOrEqual(total);
        seen.push(loaded);
      },
    });
    expect(model.name).toBe('webtinker/pocket');
    expect(model.config.modelType).toBe('llama');
    const embedding = model.tensors.get('model.embed_tokens.weight')!;
    expect(embedding.shape).toEqual([model.config.vocabSize, model.config.hiddenSize]);
    for (const [name, { data }] of model.tensors) {
      expect(data, name).toBeInstanceOf(Float32Array);
      expect(data.every(Number.isFinite), name).toBe(true);
    }
    expect(model.tokenizer.tokenizerJson).toHaveProperty('model.type', 'BPE');
    expect(model.tokenizer.tokenizerConfig).toHaveProperty('chat_template');
    expect(seen.length).toBeGreaterThan(0);
    expect(seen).toEqual(seen.toSorted((a, b) => a - b));
  });

  it('loads a registered folder, with and without a slash at its end', async () => {
    for (const base of [
      '/test/fixtures/models/tied',
      new URL('/test/fixtures/models/tied/', location.href).href,
    ]) {
      const { config, tensors } = await loadModel('mine', { modelSources: { mine: base } });
      expect(config).toMatchObject({ vocabSize: 128, hiddenSize: 48, tieWordEmbeddings: true });
      expect(tensors.size).toBe(2 * 9 + 2);
    }
  });

  it('takes the address of a folder for a name', async () => {
    const model = await loadModel('/test/fixtures/models/tied');
    expect(model.config.tieWordEmbeddings).toBe(true);
    expect(await loadConfig(new URL('/test/fixtures/models/tied/', location.href).href)).toEqual(
      model.config,
    );
  });

  it('reads the configuration alone', async () => {
    expect((await loadConfig('tied', { modelSources })).maxPositionEmbeddings).toBe(128);
  });

  it('drops tensors the decoder does not use', async () => {
    const original = await (await fetch('/test/fixtures/models/tied/model.safetensors')).arrayBuffer();
    const tensors = new Map(parseSafetensors(original).tensors);
    tensors.set('lm_head.weight', tensors.get('model.embed_tokens.weight')!);
    const { tensors: kept } = await loadModel('tied', {
      modelSources,
      fetch: replacing({ 'model.safetensors': () => new Response(writeSafetensors(tensors)) }),
    });
    expect(kept.has('lm_head.weight')).toBe(false);
  });

  it('lists the known models when the name is unknown', async () => {
    expect(knownModels(modelSources)).toEqual(['webtinker/pocket', 'tied', 'absent']);
    const loading = loadModel('toString', { modelSources });
    await expect(loading).rejects.toThrow(NotFoundError);
    await expect(loading).rejects.toThrow(/'toString'; known: webtinker\/pocket, tied, absent/);
  });

  it('refuses an address that is none', async () => {
    await expect(loadModel('x', { modelSources: { x: 'http://' } })).rejects.toThrow(BadRequestError);
  });

  it('says which file is missing', async () => {
    const answer404 = replacing({ 'tokenizer.json': () => new Response('', { status: 404 }) });
    const loading = loadModel('tied', { modelSources, fetch: answer404 });
    await expect(loading).rejects.toThrow(NotFoundError);
    await expect(loading).rejects.toThrow(/tied\/tokenizer\.json: HTTP 404/);
  });

  it('keeps the class of other HTTP errors and of network errors', async () => {
    const answer503 = replacing({ 'model.safetensors': () => new Response('', { status: 503 }) });
    await expect(loadModel('tied', { modelSources, fetch: answer503 })).rejects.toThrow(InternalServerError);
    const refused = replacing({ 'config.json': () => Promise.reject(new TypeError('refused')) });
    await expect(loadModel('tied', { modelSources, fetch: refused })).rejects.toThrow(APIConnectionError);
  });

  it('notices a body that ends early or is too long', async () => {
    const headers = { 'content-length': '100' };
    for (const body of [new Uint8Array(99), new Uint8Array(101)]) {
      const cut = replacing({ 'model.safetensors': () => new Response(body, { headers }) });
      const loading = loadModel('tied', { modelSources, fetch: cut });
      await expect(loading).rejects.toThrow(APIConnectionError);
      await expect(loading).rejects.toThrow(new RegExp(`${body.length} bytes arrived of 100`));
    }
  });

  it('says so when a page comes instead of JSON', async () => {
    const page = replacing({ 'config.json': () => new Response('<!doctype html>') });
    await expect(loadModel('tied', { modelSources, fetch: page })).rejects.toThrow(
      /config\.json: not JSON .*<!doctype/,
    );
  });

  it('refuses weights that do not fit the configuration', async () => {
    const original = await (await fetch('/test/fixtures/models/tied/model.safetensors')).arrayBuffer();
    const { tensors } = parseSafetensors(original);
    const withTensor = (name: string, shape: number[] | undefined): typeof fetch => {
      const changed = new Map(tensors);
      if (shape) changed.set(name, { shape, data: new Float32Array(shape.reduce((a, b) => a * b, 1)) });
      else changed.delete(name);
      return replacing({ 'model.safetensors': () => new Response(writeSafetensors(changed)) });
    };
    const norm = 'model.layers.1.input_layernorm.weight';
    const load = (name: string, shape?: number[]) =>
      loadModel('tied', { modelSources, fetch: withTensor(name, shape) });
    await expect(load(norm)).rejects.toThrow(`tensor '${norm}' is missing`);
    await expect(load(norm, [47])).rejects.toThrow(
      `tensor '${norm}' has shape [47], its config.json asks for [48]`,
    );
    await expect(load(norm, [1, 48])).rejects.toThrow(BadRequestError);
  });

  it('stops when the signal fires', async () => {
    const abort = new AbortController();
    const loading = loadModel('tied', {
      modelSources,
      signal: abort.signal,
      onProgress: () => abort.abort(),
    });
    abort.abort();
    await expect(loading).rejects.toThrow(AbortedError);
  });
});
