/**
 * The safetensors container: a u64 header length, a JSON header, then the bytes
 * of the tensors back to back, little-endian and row-major.
 * https://huggingface.co/docs/safetensors
 *
 * Files come from the network or the user, so nothing in a header is believed:
 * lengths are bounded, every range is checked, and the ranges must tile the
 * data exactly (no overlap, no hidden bytes), as the reference implementation demands.
 */
import { BadRequestError } from '../api/contract/errors';

/** A dense tensor in memory; `data` is row-major and as long as the product of `shape`. */
export interface HostTensor {
  readonly shape: readonly number[];
  readonly data: Float32Array<ArrayBuffer>;
}

export interface Safetensors {
  readonly tensors: ReadonlyMap<string, HostTensor>;
  /** free-form strings stored beside the tensors */
  readonly metadata: Readonly<Record<string, string>>;
}

/** The reference implementation's limit. */
const MAX_HEADER_BYTES = 100_000_000;

/** Bytes per element of the types that become f32. */
const ELEMENT_BYTES = { F32: 4, F16: 2, BF16: 2 } as const;
type ElementType = keyof typeof ELEMENT_BYTES;

interface Entry {
  readonly name: string;
  readonly dtype: ElementType;
  readonly shape: readonly number[];
  /** bytes from the end of the header */
  readonly begin: number;
  readonly end: number;
}

const isRecord = (v: unknown): v is Record<string, unknown> =>
  typeof v === 'object' && v !== null && !Array.isArray(v);
const isCount = (v: unknown): v is number => Number.isSafeInteger(v) && (v as number) >= 0;

/**
 * Reads a whole safetensors file. F16 and BF16 become f32, exactly; F32 tensors
 * share the memory of `file` where alignment allows.
 *
 * @param what how errors name the file
 * @throws BadRequestError if the file is malformed or holds another element type
 */
export function parseSafetensors(file: ArrayBuffer, what = 'safetensors file'): Safetensors {
  const fail = (reason: string): never => {
    throw new BadRequestError(`${what}: ${reason}`);
  };
  if (file.byteLength < 8) fail(`is ${file.byteLength} bytes long, shorter than its header length`);
  const view = new DataView(file);
  const headerBytes = view.getUint32(0, true) + view.getUint32(4, true) * 2 ** 32;
  if (headerBytes > MAX_HEADER_BYTES) fail(`header of ${headerBytes} bytes is over the format's limit`);
  if (8 + headerBytes > file.byteLength) {
    fail(`header of ${headerBytes} bytes runs past the end of the file (${file.byteLength} bytes)`);
  }
  const header = parseHeader(new Uint8Array(file, 8, headerBytes), fail);

  let metadata: Record<string, string> = {};
  const entries: Entry[] = [];
  for (const [name, value] of Object.entries(header)) {
    if (name === '__metadata__') metadata = parseMetadata(value, fail);
    else entries.push(parseEntry(name, value, fail));
  }

  entries.sort((a, b) => a.begin - b.begin || a.end - b.end);
  const start = 8 + headerBytes;
  let at = 0;
  for (const { name, begin, end } of entries) {
    if (begin !== at) fail(`tensor '${name}' begins at byte ${begin} of the data, expected ${at}`);
    at = end;
  }
  if (start + at !== file.byteLength) {
    fail(`tensors take ${at} bytes but the file holds ${file.byteLength - start}`);
  }

  const tensors = new Map<string, HostTensor>();
  for (const entry of entries) {
    tensors.set(entry.name, { shape: entry.shape, data: toFloat32(file, start + entry.begin, entry) });
  }
  return { tensors, metadata };
}

type Fail = (reason: string) => never;

function parseHeader(bytes: Uint8Array, fail: Fail): Record<string, unknown> {
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    return fail('header is not JSON');
  }
  return isRecord(header) ? header : fail('header is not a JSON object');
}

function parseMetadata(value: unknown, fail: Fail): Record<string, string> {
  if (!isRecord(value)) return fail('__metadata__ is not an object');
  for (const [key, v] of Object.entries(value)) {
    if (typeof v !== 'string') fail(`__metadata__ '${key}' is not a string`);
  }
  return value as Record<string, string>;
}

function parseEntry(name: string, value: unknown, fail: Fail): Entry {
  const bad = (reason: string): never => fail(`tensor '${name}' ${reason}`);
  if (!isRecord(value)) return bad('is not described by an object');
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== 'string' || !Object.hasOwn(ELEMENT_BYTES, dtype)) {
    return bad(`has dtype ${JSON.stringify(dtype)}; F32, F16 and BF16 are supported`);
  }
  if (!Array.isArray(shape) || !shape.every(isCount)) return bad('has no valid shape');
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) {
    return bad('has no valid data_offsets');
  }
  const [begin, end] = offsets as [number, number];
  const type = dtype as ElementType;
  const expected = shape.reduce<number>((n, s) => n * s, ELEMENT_BYTES[type]);
  if (end - begin !== expected) {
    return bad(`of shape [${shape.join(', ')}] ${type} takes ${expected} bytes but has ${end - begin}`);
  }
  return { name, dtype: type, shape, begin, end };
}

function toFloat32(file: ArrayBuffer, byteOffset: number, entry: Entry): Float32Array<ArrayBuffer> {
  const count = (entry.end - entry.begin) / ELEMENT_BYTES[entry.dtype];
  const align = ELEMENT_BYTES[entry.dtype];
  // a header whose length is not a multiple of the element size leaves the data unaligned
  const aligned = byteOffset % align === 0;
  const bytes = aligned ? file : file.slice(byteOffset, byteOffset + count * align);
  const from = aligned ? byteOffset : 0;
  if (entry.dtype === 'F32') return new Float32Array(bytes, from, count);
  const half = new Uint16Array(bytes, from, count);
  return entry.dtype === 'F16' ? float16ToFloat32(half) : bfloat16ToFloat32(half);
}

/** bfloat16 is the upper half of an f32. */
function bfloat16ToFloat32(half: Uint16Array): Float32Array<ArrayBuffer> {
  const bits = new Uint32Array(half.length);
  for (let i = 0; i < half.length; i++) bits[i] = half[i]! << 16;
  return new Float32Array(bits.buffer);
}

let halfTable: Uint32Array | undefined;

/** f32 bits of every IEEE 754 binary16 value: one load per element is several times faster than arithmetic. */
function halfToFloatTable(): Uint32Array {
  const table = new Uint32Array(65536);
  for (let h = 0; h < 65536; h++) {
    const sign = (h & 0x8000) << 16;
    const exponent = (h >> 10) & 0x1f;
    let fraction = h & 0x3ff;
    let bits: number;
    if (exponent === 31) {
      bits = 0x7f800000 | (fraction << 13);
    } else if (exponent > 0) {
      bits = ((exponent + 112) << 23) | (fraction << 13);
    } else if (fraction === 0) {
      bits = 0;
    } else {
      // subnormal: shift until the leading one is implicit
      let e = 113;
      while ((fraction & 0x400) === 0) {
        fraction <<= 1;
        e--;
      }
      bits = (e << 23) | ((fraction & 0x3ff) << 13);
    }
    table[h] = sign | bits;
  }
  return table;
}

/** Exact conversion of IEEE 754 binary16 bit patterns; NaN payloads are kept. */
export function float16ToFloat32(half: Uint16Array): Float32Array<ArrayBuffer> {
  halfTable ??= halfToFloatTable();
  const table = halfTable;
  const bits = new Uint32Array(half.length);
  for (let i = 0; i < half.length; i++) bits[i] = table[half[i]!]!;
  return new Float32Array(bits.buffer);
}

/**
 * Writes tensors as F32, in the map's order. The header is padded to 8 bytes,
 * so that readers can map the data without copying.
 *
 * @throws BadRequestError if a tensor's data does not fit its shape
 */
export function writeSafetensors(
  tensors: ReadonlyMap<string, HostTensor>,
  metadata: Readonly<Record<string, string>> = {},
): ArrayBuffer {
  const header = Object.create(null) as Record<string, unknown>;
  if (Object.keys(metadata).length > 0) header.__metadata__ = metadata;
  let at = 0;
  for (const [name, { shape, data }] of tensors) {
    const count = shape.reduce((n, s) => n * s, 1);
    if (name === '__metadata__' || count !== data.length) {
      throw new BadRequestError(
        `tensor '${name}' of shape [${shape.join(', ')}] with ${data.length} elements cannot be written`,
      );
    }
    header[name] = { dtype: 'F32', shape, data_offsets: [at, at + data.byteLength] };
    at += data.byteLength;
  }
  const json = JSON.stringify(header);
  const encoded = new TextEncoder().encode(json);
  const headerBytes = Math.ceil(encoded.length / 8) * 8;
  const file = new ArrayBuffer(8 + headerBytes + at);
  new DataView(file).setBigUint64(0, BigInt(headerBytes), true);
  const bytes = new Uint8Array(file);
  bytes.fill(0x20, 8, 8 + headerBytes);
  bytes.set(encoded, 8);
  at = 8 + headerBytes;
  for (const { data } of tensors.values()) {
    bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at);
    at += data.byteLength;
  }
  return file;
}
