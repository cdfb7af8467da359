/** The types users build requests from. */
import { describe, expect, it } from 'vitest';
import {
  AdamParams,
  BadRequestError,
  Datum,
  type EncodedTextChunk,
  ImageAssetPointerChunk,
  ImageChunk,
  LoraConfig,
  ModelInput,
  SamplingParams,
  TensorData,
  UnsupportedError,
} from '../../src/index';
import { datumPayloads } from '../../src/api/datum';
import { samplingPayload } from '../../src/api/params';

describe('ModelInput', () => {
  it('goes from ints to ints', () => {
    const input = ModelInput.fromInts([3, 1, 2]);
    expect(input.toInts()).toEqual([3, 1, 2]);
    expect(input.length).toBe(3);
    expect(input.chunks).toEqual([{ type: 'encoded_text', tokens: [3, 1, 2] }]);
    expect(ModelInput.fromInts(Uint32Array.of(5)).toInts()).toEqual([5]);
    expect(ModelInput.empty().length).toBe(0);
  });

  it('is immutable: appending makes a new one, the source array is copied', () => {
    const source = [1];
    const one = ModelInput.fromInts(source);
    source.push(9);
    const two = one.appendInt(2);
    const three = two.append({ type: 'encoded_text', tokens: [3] }).appendInt(4);
    expect([one, two, three].map((m) => m.toInts())).toEqual([[1], [1, 2], [1, 2, 3, 4]]);
    expect(three.chunks.length).toBe(2);
    expect(ModelInput.empty().appendInt(7).toInts()).toEqual([7]);
    expect(() => ((one.chunks[0] as EncodedTextChunk).tokens as number[]).push(1)).toThrow();
  });
});

describe('images in an input', () => {
  const data = Uint8Array.of(1, 2);
  const image = new ImageChunk({ data, format: 'png', expectedTokens: 3 });
  const pointer = new ImageAssetPointerChunk({ location: 'asset:1', format: 'jpeg' });

  it('count as the tokens they are expected to take', () => {
    const input = ModelInput.fromInts([1, 2]).append(image).appendInt(7);
    expect(input.length).toBe(6);
    expect(input.chunks.map(({ type }) => type)).toEqual(['encoded_text', 'image', 'encoded_text']);
    expect(() => ModelInput.empty().append(pointer).length).toThrow('image_asset_pointer.expected_tokens');
    expect(() => input.toInts()).toThrow('model_input.chunks[1]: image has no token ids');
  });

  it('can be written as plain objects; what is no chunk is refused', () => {
    const plain = { type: 'image', data, format: 'png', expectedTokens: 3 } as const;
    expect(new ModelInput({ chunks: [plain] }).chunks).toEqual([image]);
    expect(() => new ModelInput({ chunks: [{ type: 'dmel' } as never] })).toThrow(
      'model_input.chunks[0].type',
    );
    expect(() => new ImageChunk({ data, format: 'gif' as 'png' })).toThrow('image.format');
  });

  it('are refused by the local engine in so many words', () => {
    const text = new Datum({ modelInput: ModelInput.fromInts([1]) });
    const send = () => datumPayloads([text, new Datum({ modelInput: new ModelInput({ chunks: [image] }) })]);
    expect(send).toThrow(UnsupportedError);
    expect(send).toThrow('data[1].model_input.chunks[0]: images are not there');
  });
});

describe('TensorData', () => {
  it('infers dtype and shape', () => {
    expect(TensorData.fromArray([1, 2.5])).toMatchObject({ dtype: 'float32', shape: [2] });
    expect(TensorData.fromArray(Int32Array.of(1, 2))).toMatchObject({ dtype: 'int64', shape: [2] });
    expect(TensorData.fromArray(BigInt64Array.of(5n)).toArray()).toEqual([5]);
    expect(TensorData.fromArray(Float64Array.of(0.1)).data).toEqual(Float32Array.of(0.1));
    expect(TensorData.fromArray([])).toMatchObject({ shape: [0] });
  });

  it('nests and flattens', () => {
    const nested = [
      [
        [1, 2],
        [3, 4],
        [5, 6],
      ],
      [
        [7, 8],
        [9, 10],
        [11, 12],
      ],
    ];
    const tensor = TensorData.fromArray(nested);
    expect(tensor.shape).toEqual([2, 3, 2]);
    expect(tensor.toArray()).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    expect(tensor.toNested()).toEqual(nested);
    expect(TensorData.fromArray([4, 5]).toNested()).toEqual([4, 5]);
  });

  it.each([
    ['ragged lists', () => TensorData.fromArray([[1, 2], [3]]), 'TensorData[1]'],
    ['mixed depths', () => TensorData.fromArray([[1], 2]), 'TensorData[1]'],
    ['text', () => TensorData.fromArray(['1' as unknown as number]), 'TensorData[0]'],
    ['a fraction as int64', () => TensorData.fromArray([1, 1.5], 'int64'), 'TensorData[1]'],
    [
      'a wrong shape',
      () => new TensorData({ dtype: 'float32', shape: [3], data: new Float32Array(2) }),
      'shape',
    ],
  ])('refuses %s', (_, make, named) => {
    expect(make).toThrow(BadRequestError);
    expect(make).toThrow(named);
  });
});

describe('Datum', () => {
  const modelInput = ModelInput.fromInts([1, 2]);

  it('converts arrays by key and keeps tensors', () => {
    const own = TensorData.fromArray([1, 2]);
    const datum = new Datum({
      modelInput,
      lossFnInputs: { target_tokens: [2, 3], weights: new Float64Array(2), advantages: [1, 0], mine: own },
    });
    expect(Object.values(datum.lossFnInputs).map(({ dtype }) => dtype)).toEqual([
      'int64',
      'float32',
      'float32',
      'float32',
    ]);
    expect(datum.lossFnInputs.mine).toBe(own);
    expect(datum.lossFnInputs.target_tokens!.toArray()).toEqual([2, 3]);
  });

  it.each([
    ['an array under an unknown key', { mask: [1, 0] }, 'loss_fn_inputs.mask'],
    ['a key of Object.prototype', { toString: [1, 0] }, 'loss_fn_inputs.toString'],
    ['a fractional target', { target_tokens: [1, 0.5] }, 'loss_fn_inputs.target_tokens[1]'],
    ['a string', { weights: 'no' as unknown as number[] }, 'loss_fn_inputs.weights'],
  ])('refuses %s', (_, lossFnInputs, named) => {
    const make = (): Datum => new Datum({ modelInput, lossFnInputs });
    expect(make).toThrow(BadRequestError);
    expect(make).toThrow(named);
  });

  it('crosses the seam as plain data', () => {
    const [payload] = datumPayloads([new Datum({ modelInput, lossFnInputs: { weights: [0, 1] } })]);
    expect(structuredClone(payload)).toEqual(payload);
    expect(payload).toEqual({
      tokens: [1, 2],
      lossFnInputs: { weights: { dtype: 'float32', shape: [2], data: Float32Array.of(0, 1) } },
    });
  });
});

describe('settings', () => {
  it('have the documented defaults', () => {
    expect({ ...new AdamParams() }).toEqual({
      learningRate: 1e-4,
      beta1: 0.9,
      beta2: 0.95,
      eps: 1e-12,
      weightDecay: 0,
      gradClipNorm: 0,
    });
    expect(new SamplingParams()).toMatchObject({
      maxTokens: null,
      seed: null,
      temperature: 1,
      topK: -1,
      topP: 1,
    });
    expect(new LoraConfig()).toMatchObject({ rank: 32, trainMlp: true, trainAttn: true, trainUnembed: true });
  });

  it('take what is given, where undefined means the default', () => {
    expect(new AdamParams({ learningRate: 0.5, beta1: undefined })).toMatchObject({
      learningRate: 0.5,
      beta1: 0.9,
    });
  });

  it('refuse names they do not know', () => {
    expect(() => new AdamParams({ learning_rate: 1 } as object)).toThrow(
      /AdamParams\.learning_rate.*learningRate/,
    );
    expect(() => new SamplingParams({ max_tokens: 1 } as object)).toThrow(BadRequestError);
    expect(() => new LoraConfig({ alpha: 1 } as object)).toThrow(BadRequestError);
  });

  it.each([
    [undefined, [], [], true],
    ['\n', ['\n'], [], true],
    [['a', 'b'], ['a', 'b'], [], true],
    [[1, 2], [], [1, 2], true],
    // nothing stops it, as in newer SDKs
    [[], [], [], false],
  ])('split stop %j into strings and tokens', (stop, stopStrings, stopTokens, stopAtEos) => {
    const payload = samplingPayload(new SamplingParams({ stop }));
    expect(payload).toMatchObject({ stopStrings, stopTokens, stopAtEos });
  });

  it.each([[['a', 1]], [[null]], [[{}]]])('refuse stop %j', (stop) => {
    const params = new SamplingParams({ stop: stop as unknown as string[] });
    expect(() => samplingPayload(params)).toThrow(/sampling_params\.stop/);
  });
});
