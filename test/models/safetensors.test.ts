import { describe, expect, it } from 'vitest';
import { BadRequestError } from '../../src/api/contract/errors';
import { float16ToFloat32, parseSafetensors, writeSafetensors } from '../../src/models/safetensors';

const FIXTURES = '/test/fixtures/models/container';

async function bytes(name: string): Promise<ArrayBuffer> {
  const response = await fetch(`${FIXTURES}/${name}`);
  if (!response.ok) throw new Error(`${name}: HTTP ${response.status}`);
  return response.arrayBuffer();
}

/** A file with any header text and any data. */
function file(header: string, dataBytes: number, headerLength?: bigint): ArrayBuffer {
  const text = new TextEncoder().encode(header);
  const out = new Uint8Array(8 + text.length + dataBytes);
  new DataView(out.buffer).setBigUint64(0, headerLength ?? BigInt(text.length), true);
  out.set(text, 8);
  return out.buffer;
}

const bits = (a: ArrayLike<number>): number[] => [...new Uint32Array(Float32Array.from(a).buffer)];

describe('parseSafetensors', () => {
  it('reads F32, F16 and BF16 exactly as PyTorch does', async () => {
    const expected = (await (await fetch(`${FIXTURES}/expected.json`)).json()) as Record<string, number[]>;
    const { tensors, metadata } = parseSafetensors(await bytes('mixed.safetensors'));
    expect([...tensors.keys()].sort()).toEqual(Object.keys(expected).sort());
    for (const [name, values] of Object.entries(expected)) {
      expect(tensors.get(name)!.shape).toEqual([values.length]);
      expect(bits(tensors.get(name)!.data), name).toEqual(bits(values));
    }
    expect(metadata).toEqual({});
  });

  it('reads data that the header leaves unaligned', () => {
    const header = '{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}';
    const padded = header + ' '.repeat((5 - (header.length % 4)) % 4); // header length 1 mod 4
    const buffer = file(padded, 8);
    expect((8 + padded.length) % 4).toBe(1);
    new DataView(buffer).setFloat32(8 + padded.length + 4, -1.5, true);
    expect([...parseSafetensors(buffer).tensors.get('x')!.data]).toEqual([0, -1.5]);
  });

  it('converts every binary16 value by its definition', () => {
    const got = float16ToFloat32(Uint16Array.from({ length: 65536 }, (_, i) => i));
    for (let i = 0; i < 65536; i++) {
      const sign = i & 0x8000 ? -1 : 1;
      const exponent = (i >> 10) & 31;
      const fraction = i & 1023;
      const finite = exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24;
      const expected = sign * (exponent < 31 ? finite : fraction ? NaN : Infinity);
      if (!Object.is(got[i], expected))
        throw new Error(`0x${i.toString(16)}: ${got[i]}, expected ${expected}`);
    }
  });

  const entry = (fields: object) =>
    JSON.stringify({ x: { dtype: 'F32', shape: [2], data_offsets: [0, 8], ...fields } });
  const notUtf8 = file('{"?":1}', 0);
  new Uint8Array(notUtf8)[8 + 2] = 0xff;
  const hostile: [name: string, buffer: ArrayBuffer, message: RegExp][] = [
    ['an empty file', new ArrayBuffer(0), /0 bytes long/],
    ['seven bytes', new ArrayBuffer(7), /7 bytes long/],
    ['a header past the end', file('{}', 0, 3n), /past the end/],
    ['a header length near 2^64', file('{}', 0, 2n ** 64n - 1n), /over the format's limit/],
    ['a header that is no JSON', file('{"x":', 0), /not JSON/],
    ['a header that is not UTF-8', notUtf8, /not JSON/],
    ['a header that is a list', file('[]', 0), /not a JSON object/],
    ['a tensor that is a number', file('{"x":1}', 0), /tensor 'x'/],
    ['metadata that is a list', file('{"__metadata__":[]}', 0), /__metadata__/],
    ['metadata with a number', file('{"__metadata__":{"a":1}}', 0), /__metadata__ 'a'/],
    ['an integer dtype', file(entry({ dtype: 'I64' }), 8), /tensor 'x' has dtype "I64"/],
    ['a dtype of the prototype', file(entry({ dtype: 'toString' }), 8), /tensor 'x' has dtype "toString"/],
    ['a negative size', file(entry({ shape: [-2] }), 8), /tensor 'x' has no valid shape/],
    ['a fractional size', file(entry({ shape: [0.5, 4] }), 8), /tensor 'x' has no valid shape/],
    ['a shape whose product overflows', file(entry({ shape: [2 ** 52, 2 ** 52] }), 8), /tensor 'x' of shape/],
    ['a shape that does not fit the range', file(entry({ shape: [3] }), 8), /takes 12 bytes but has 8/],
    ['offsets that run backwards', file(entry({ data_offsets: [8, 0] }), 8), /tensor 'x' of shape/],
    ['three offsets', file(entry({ data_offsets: [0, 8, 8] }), 8), /no valid data_offsets/],
    [
      'offsets past the end',
      file(entry({ shape: [4], data_offsets: [0, 16] }), 8),
      /take 16 bytes .* holds 8/,
    ],
    ['bytes that no tensor owns', file(entry({}), 12), /take 8 bytes .* holds 12/],
    ['a hole before the first tensor', file(entry({ data_offsets: [4, 12] }), 12), /begins at byte 4/],
    [
      'overlapping tensors',
      file(
        '{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"y":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}',
        12,
      ),
      /tensor 'y' begins at byte 4/,
    ],
  ];
  for (const [name, buffer, message] of hostile) {
    it(`refuses ${name}`, () => {
      expect(() => parseSafetensors(buffer)).toThrow(message);
      expect(() => parseSafetensors(buffer)).toThrow(BadRequestError);
    });
  }

  it('names the tensor and the type it cannot read in a real file', async () => {
    const buffer = await bytes('int64.safetensors');
    expect(() => parseSafetensors(buffer, 'int64.safetensors')).toThrow(
      /int64\.safetensors: tensor 'ids' has dtype "I64"/,
    );
  });
});

describe('writeSafetensors', () => {
  it('writes the same bytes as the reference library', async () => {
    const reference = await bytes('f32.safetensors');
    const { tensors, metadata } = parseSafetensors(reference);
    expect(metadata).toEqual({ purpose: 'test' });
    expect([...tensors].map(([name, t]) => [name, t.shape])).toEqual([
      ['a', [2, 3]],
      ['b', []],
      ['c', [0, 4]],
    ]);
    expect(new Uint8Array(writeSafetensors(tensors, metadata))).toEqual(new Uint8Array(reference));
  });

  it('reads back what it wrote, names beyond ASCII included', () => {
    const tensors = new Map([
      ['größe', { shape: [1, 3], data: Float32Array.of(1, -0, NaN) }],
      ['__proto__', { shape: [2], data: Float32Array.of(3e38, 1e-45) }],
    ]);
    const back = parseSafetensors(writeSafetensors(tensors));
    expect(back.tensors).toEqual(tensors);
    expect(back.metadata).toEqual({});
  });

  it('refuses a tensor whose data does not fit its shape', () => {
    expect(() => writeSafetensors(new Map([['x', { shape: [2], data: new Float32Array(3) }]]))).toThrow(
      /tensor 'x' of shape \[2\] with 3 elements/,
    );
  });
});
