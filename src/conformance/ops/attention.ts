/** Cases of attention over packed batches and its backward, and of attention against a cache. */
import { attention, attentionBackward } from '../../kernels/attention/attention';
import { attentionCached, kvAppend, NO_ROW } from '../../kernels/attention/attention-cached';
import { opCase, type Subject } from '../case';
import { exact, near, ofSum } from '../measure';
import { segmentsOf, type F32, type Random } from '../random';
import { attend, dot, type Attended } from './attend';

interface Heads {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly scale?: number;
}

/**
 * Head dimensions with and without whole vec4s, and on both sides of what the register kernels take. Each is one more
 * set of pipelines to compile, so they are few.
 */
export const HEAD_DIMS = [6, 8, 20, 64, 128] as const;

/** Grouped and not. */
function headsOf(random: Random): Heads {
  const kvHeads = random.int(1, 3);
  const scale = random.chance(0.2) ? { scale: random.within(0.1, 1) } : {};
  return {
    kvHeads,
    heads: kvHeads * random.int(1, 3),
    headDim: random.pick(HEAD_DIMS),
    ...scale,
  };
}

const scaleOf = ({ headDim, scale }: Heads): number => scale ?? 1 / Math.sqrt(headDim);
const widthOf = ({ heads, kvHeads, headDim }: Heads): number => (heads + 2 * kvHeads) * headDim;

/** Rows of qkv. Sharp ones make scores of some ±30: nearly all weight on one key. */
const rowsOf = (random: Random, rows: number, heads: Heads, sharp: boolean): F32 =>
  random.values(rows * widthOf(heads), 'normal', sharp ? 3 : 1);

/** The features of a head in a row of qkv; key heads follow the query heads, value heads those. */
const slice = (data: F32, width: number, row: number, head: number, dim: number): F32 =>
  data.subarray(row * width + head * dim, row * width + (head + 1) * dim);

/** exp of arguments up to ±60 and a few more operations, on top of sums over keys and features. */
const roundingsOf = (keys: number, headDim: number): number => ofSum(keys, headDim) + 24;

interface Packed extends Heads {
  readonly lengths: readonly number[];
  readonly T: number;
  readonly sharp: boolean;
  readonly qkv: F32;
  readonly width: number;
  /** by t·heads + h */
  readonly rows: readonly Attended[];
  readonly at: (row: number, head: number) => F32;
  readonly startOf: readonly number[];
}

function packedOf(random: Random): Packed {
  const heads = headsOf(random);
  const { headDim, kvHeads } = heads;
  const T = random.size(heads.heads * headDim > 128 ? 36 : 80);
  const lengths = random.lengths(T);
  const sharp = random.chance(0.3);
  const qkv = rowsOf(random, T, heads, sharp);
  const width = widthOf(heads);
  const at = (row: number, head: number): F32 => slice(qkv, width, row, head, headDim);
  const startOf: number[] = [];
  for (const length of lengths) startOf.push(...Array.from<number>({ length }).fill(startOf.length));
  const rows: Attended[] = [];
  for (let t = 0; t < T; t++) {
    for (let h = 0; h < heads.heads; h++) {
      const kv = heads.heads + Math.floor(h / (heads.heads / kvHeads));
      const seen = Array.from({ length: t - startOf[t]! + 1 }, (_, i) => startOf[t]! + i);
      rows.push(
        attend(
          at(t, h),
          seen.map((j) => at(j, kv)),
          seen.map((j) => at(j, kv + kvHeads)),
          scaleOf(heads),
        ),
      );
    }
  }
  return { ...heads, lengths, T, sharp, qkv, width, rows, at, startOf };
}

const aboutPacked = ({ heads, kvHeads, headDim, lengths, sharp, scale }: Packed) => ({
  heads,
  kvHeads,
  headDim,
  lengths,
  sharp,
  scale: scale ?? null,
});

export const attentionSubject: Subject = {
  kind: 'op',
  name: attention.name,
  generate(random) {
    const packed = packedOf(random);
    const { heads, kvHeads, headDim, scale, T, width, rows, qkv, lengths } = packed;
    const roundings = roundingsOf(Math.max(...lengths), headDim);
    return opCase(attention, {
      about: aboutPacked(packed),
      inputs: {
        qkv: { shape: ['T', width], data: qkv },
        segments: { shape: ['T', 2], data: segmentsOf(lengths) },
      },
      attrs: { heads, kvHeads, headDim, scale },
      values: { T },
      checks: {
        out: near(roundings, (i) => rows[Math.floor(i / headDim)]!.ofOut[i % headDim]!),
        lse: near(roundings, (i) => rows[i]!.ofLse),
      },
    });
  },
};

/** The magnitudes of d_qkv, from d_out (T, heads·headDim). */
function backwardMagnitudes(packed: Packed, dOut: F32): Float64Array {
  const { heads, kvHeads, headDim, T, rows, at, startOf, width } = packed;
  const scale = scaleOf(packed);
  // sums, and sums of squares of what their terms may be off by
  const sums = new Float64Array(T * width);
  const squares = new Float64Array(T * width);
  const add = (row: number, head: number, c: number, term: number, size: number): void => {
    const i = row * width + head * headDim + c;
    sums[i]! += term;
    squares[i]! += size * size;
  };
  for (let t = 0; t < T; t++) {
    for (let h = 0; h < heads; h++) {
      const kv = heads + Math.floor(h / (heads / kvHeads));
      const { out, lse, p, exponent } = rows[t * heads + h]!;
      const d = slice(dOut, heads * headDim, t, h, headDim);
      const [delta, ofDelta] = dot(d, out);
      for (let j = startOf[t]!; j <= t; j++) {
        const weight = p[j - startOf[t]!]!;
        const off = weight * (exponent[j - startOf[t]!]! + Math.abs(lse));
        const [dP, ofDP] = dot(d, at(j, kv + kvHeads));
        const dScore = scale * weight * (dP - delta);
        const ofDScore =
          scale * (off * Math.abs(dP - delta) + weight * (Math.abs(dP) + ofDP + Math.abs(delta) + ofDelta));
        const [q, k] = [at(t, h), at(j, kv)];
        for (let c = 0; c < headDim; c++) {
          add(t, h, c, dScore * k[c]!, ofDScore * k[c]!);
          add(j, kv, c, dScore * q[c]!, ofDScore * q[c]!);
          add(j, kv + kvHeads, c, weight * d[c]!, off * d[c]!);
        }
      }
    }
  }
  return sums.map((sum, i) => Math.abs(sum) + Math.sqrt(squares[i]!));
}

export const attentionBackwardSubject: Subject = {
  kind: 'op',
  name: attentionBackward.name,
  generate(random) {
    const packed = packedOf(random);
    const { heads, kvHeads, headDim, scale, T, width, rows, qkv, lengths } = packed;
    const dOut = random.values(T * heads * headDim);
    const terms = Math.max(...lengths) * (heads / kvHeads);
    return opCase(attentionBackward, {
      about: aboutPacked(packed),
      inputs: {
        qkv: { shape: ['T', width], data: qkv },
        segments: { shape: ['T', 2], data: segmentsOf(lengths) },
        out: {
          shape: ['T', heads * headDim],
          data: Float32Array.from(
            { length: T * heads * headDim },
            (_, i) => rows[Math.floor(i / headDim)]!.out[i % headDim]!,
          ),
        },
        lse: { shape: ['T', heads], data: Float32Array.from(rows, ({ lse }) => lse) },
        d_out: { shape: ['T', heads * headDim], data: dOut },
      },
      attrs: { heads, kvHeads, headDim, scale },
      values: { T },
      checks: { d_qkv: near(roundingsOf(terms, headDim), backwardMagnitudes(packed, dOut)) },
    });
  },
};

export const attentionCachedSubject: Subject = {
  kind: 'op',
  name: attentionCached.name,
  generate(random) {
    const heads = headsOf(random);
    const { kvHeads, headDim } = heads;
    const [B, R, width] = [random.int(1, 9), random.size(200), widthOf(heads)];
    const sharp = random.chance(0.3);
    const qkv = rowsOf(random, B, heads, sharp);
    const cacheK = random.values(R * kvHeads * headDim, 'normal', sharp ? 3 : 1);
    const cacheV = random.values(R * kvHeads * headDim);
    const slots: number[] = [];
    const rows: (Attended | null)[] = [];
    for (let b = 0; b < B; b++) {
      const prefix = random.int(0, R - 1);
      const prefixStart = random.int(0, R - prefix);
      const finished = random.chance(0.2);
      const own = finished ? 0 : random.int(1, Math.min(R, 70));
      const ownStart = random.int(0, R - own);
      slots.push(prefixStart, prefix, ownStart, own);
      const seen = [
        ...Array.from({ length: prefix }, (_, i) => prefixStart + i),
        ...Array.from({ length: own }, (_, i) => ownStart + i),
      ];
      for (let h = 0; h < heads.heads; h++) {
        const kv = Math.floor(h / (heads.heads / kvHeads));
        const of = (cache: F32) => seen.map((r) => slice(cache, kvHeads * headDim, r, kv, headDim));
        const q = slice(qkv, width, b, h, headDim);
        rows.push(finished ? null : attend(q, of(cacheK), of(cacheV), scaleOf(heads)));
      }
    }
    const { scale, heads: count } = heads;
    return opCase(attentionCached, {
      about: { heads: count, kvHeads, headDim, scale: scale ?? null, R, slots, sharp },
      inputs: {
        qkv: { shape: ['B', width], data: qkv },
        cache_k: { shape: [R, kvHeads * headDim], data: cacheK, state: true },
        cache_v: { shape: [R, kvHeads * headDim], data: cacheV, state: true },
        slots: { shape: ['B', 4], data: Uint32Array.from(slots) },
      },
      attrs: { heads: count, kvHeads, headDim, scale },
      values: { B },
      checks: {
        // a finished sequence has no keys, and zeros
        out: near(roundingsOf(R, headDim), (i) => rows[Math.floor(i / headDim)]?.ofOut[i % headDim] ?? 0),
      },
    });
  },
};

export const kvAppendSubject: Subject = {
  kind: 'op',
  name: kvAppend.name,
  generate(random) {
    const heads = headsOf(random);
    const { kvHeads, headDim } = heads;
    const [R, width] = [random.size(130), widthOf(heads)];
    const B = random.int(1, Math.min(R, 40));
    const rows = random.distinct(B, R).map((row) => (random.chance(0.2) ? NO_ROW : row));
    const cache = () => ({
      shape: [R, kvHeads * headDim],
      data: random.values(R * kvHeads * headDim),
      state: true,
    });
    return opCase(kvAppend, {
      about: { ...heads, R, B, skipped: rows.filter((row) => row === NO_ROW).length },
      inputs: {
        qkv: { shape: ['B', width], data: random.values(B * width) },
        rows: { shape: ['B'], data: Uint32Array.from(rows) },
        cache_k: cache(),
        cache_v: cache(),
      },
      attrs: { heads: heads.heads, kvHeads, headDim },
      values: { B },
      checks: { cache_k: exact, cache_v: exact },
    });
  },
};
