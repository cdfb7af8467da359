/** Attention of one query in f64, with the magnitudes that its roundings are measured against. */

/** Attention of one query head over keys. */
export interface Attended {
  /** (headDim) */
  readonly out: Float64Array;
  readonly lse: number;
  /** by key: probability, and the magnitude of its score as an exponent: 1 + |score| + √Σ products² */
  readonly p: Float64Array;
  readonly exponent: Float64Array;
  /** of the elements of out, and of lse */
  readonly ofOut: Float64Array;
  readonly ofLse: number;
}

type Vector = ArrayLike<number>;

/** Σ aᵢ·bᵢ, and √Σ (aᵢ·bᵢ)². */
export function dot(a: Vector, b: Vector): readonly [number, number] {
  let [sum, squares] = [0, 0];
  for (let i = 0; i < a.length; i++) {
    const term = a[i]! * b[i]!;
    sum += term;
    squares += term * term;
  }
  return [sum, Math.sqrt(squares)];
}

/** softmax(scale · q·kᵀ)·v. An error in a score is a relative error of its probability. */
export function attend(
  q: Vector,
  keys: readonly Vector[],
  values: readonly Vector[],
  scale: number,
): Attended {
  const count = keys.length;
  const scores = new Float64Array(count);
  const exponent = new Float64Array(count);
  keys.forEach((key, j) => {
    const [score, spread] = dot(q, key);
    scores[j] = scale * score;
    exponent[j] = 1 + scale * (Math.abs(score) + spread);
  });
  const top = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  const weights = scores.map((s) => Math.exp(s - top));
  const sum = weights.reduce((a, b) => a + b, 0);
  const p = weights.map((w) => w / sum);
  const lse = top + Math.log(sum);
  const dim = q.length;
  const out = new Float64Array(dim);
  const squares = new Float64Array(dim);
  let weighted = 0;
  for (let j = 0; j < count; j++) {
    weighted += (p[j]! * exponent[j]!) ** 2;
    for (let c = 0; c < dim; c++) {
      const term = p[j]! * values[j]![c]!;
      out[c]! += term;
      squares[c]! += (term * exponent[j]!) ** 2;
    }
  }
  const ofSum = 1 + Math.sqrt(weighted);
  const ofOut = out.map((x, c) => Math.abs(x) * ofSum + Math.sqrt(squares[c]!));
  return { out, lse, p, exponent, ofOut, ofLse: Math.abs(lse) + ofSum };
}
