/** The tokens one row of logits allows and their masses, as `sample.wgsl` has them but in f64, and draws from them. */

/** How tokens are chosen; greedy decoding is top-1 at temperature 1. */
export interface Rule {
  /** > 0 */
  readonly temperature: number;
  /** 0 is off */
  readonly topK: number;
  /** in (0, 1]; 1 is off */
  readonly topP: number;
}

export interface Drawn {
  readonly token: number;
  /** under softmax(logits / temperature) over the whole vocabulary; NaN if a logit is not finite */
  readonly logprob: number;
}

/** u32 in the order of the f32 with these bits; −0 is 0. */
function keyOf(bits: number): number {
  if (bits === 0x8000_0000) return bits;
  return (bits >= 0x8000_0000 ? ~bits : bits | 0x8000_0000) >>> 0;
}

export class Distribution {
  readonly #top: number;
  readonly #topAt: number;
  #sound = true;
  /** mass of each id relative to the largest; unset for a choice of one */
  #mass: Float64Array | undefined;
  #whole = 0;
  /** kept are the ids with keys above `#edge`, and the first `#ties` whose key is `#edge` */
  #keys: Uint32Array | undefined;
  #edge = 0;
  #ties = 0;
  /** of all that are kept, summed in order of ids */
  #kept = 0;

  constructor(
    readonly logits: Float32Array,
    readonly rule: Rule,
  ) {
    let top = -Infinity;
    let at = 0;
    for (let i = 0; i < logits.length; i++) {
      const x = logits[i]!;
      if (!Number.isFinite(x)) this.#sound = false;
      if (x > top) {
        top = x;
        at = i;
      }
    }
    this.#top = top;
    this.#topAt = at;
    if (this.#sound) this.#weigh();
  }

  /** The first id, in order, at which the mass of the kept ones exceeds the share `unit` in [0, 1) of it. */
  draw(unit: number): Drawn {
    const { logits, rule } = this;
    if (!this.#sound) return { token: this.#topAt, logprob: NaN };
    const token = this.#mass ? this.#walk(unit * this.#kept).last : this.#topAt;
    const scaled = (logits[token]! - this.#top) / rule.temperature;
    return { token, logprob: scaled - Math.log(this.#whole) };
  }

  #weigh(): void {
    const { logits, rule } = this;
    const { temperature, topK, topP } = rule;
    const top = this.#top;
    const one = topK === 1;
    const mass = one ? undefined : new Float64Array(logits.length);
    let whole = 0;
    for (let i = 0; i < logits.length; i++) {
      // beyond −200 f32 cannot tell it from 0
      const weight = Math.exp(Math.max((logits[i]! - top) / temperature, -200));
      if (mass) mass[i] = weight;
      whole += weight;
    }
    this.#whole = whole;
    this.#mass = mass;
    if (!mass) return;
    const limited = topK > 0 && topK < logits.length;
    if (limited || topP < 1) {
      const bits = new Uint32Array(logits.buffer, logits.byteOffset, logits.length);
      const keys = bits.map(keyOf);
      this.#keys = keys;
      if (limited) {
        this.#edge = threshold(keys, undefined, topK, 0);
        this.#ties = topK - measure(keys, undefined, this.#edge).above;
      }
      if (topP < 1) this.#cut(keys, mass, topP, limited);
    }
    this.#kept = this.#walk(Infinity).passed;
  }

  /** Keeps, of what is kept, the shortest run of largest whose share of the mass reaches p. */
  #cut(keys: Uint32Array, mass: Float64Array, p: number, limited: boolean): void {
    const before = measure(keys, mass, this.#edge);
    const goal = p * (limited ? before.above + this.#ties * before.each : this.#whole);
    const edge = threshold(keys, mass, goal, this.#edge);
    const { above, each } = measure(keys, mass, edge);
    const wanted = Math.max(1, Math.ceil((goal - above) / Math.max(each, 1e-37)));
    this.#ties = Math.min(wanted, edge === this.#edge && limited ? this.#ties : keys.length);
    this.#edge = edge;
  }

  /** Goes over the kept ids in order until their mass exceeds `goal`. */
  #walk(goal: number): { readonly last: number; readonly passed: number } {
    const mass = this.#mass!;
    const keys = this.#keys;
    let passed = 0;
    let last = 0;
    let ties = this.#ties;
    for (let i = 0; i < mass.length && passed <= goal; i++) {
      if (keys) {
        const key = keys[i]!;
        if (key < this.#edge || (key === this.#edge && ties-- <= 0)) continue;
      }
      if (mass[i] === 0) continue;
      passed += mass[i]!;
      last = i;
    }
    return { last, passed };
  }
}

/** The amount of all ids with keys above `edge`, and that of an id with this key. */
function measure(keys: Uint32Array, amounts: Float64Array | undefined, edge: number) {
  let above = 0;
  let each = 0;
  for (let i = 0; i < keys.length; i++) {
    const key = keys[i]!;
    if (key < edge) continue;
    const amount = amounts ? amounts[i]! : 1;
    if (key > edge) above += amount;
    else each = amount;
  }
  return { above, each };
}

const DIGITS = 65536;

/**
 * The largest key such that all ids with this or a larger one amount to `goal`, found by its upper and then its
 * lower 16 bits; `least` if there is no larger one.
 */
function threshold(
  keys: Uint32Array,
  amounts: Float64Array | undefined,
  goal: number,
  least: number,
): number {
  const sums = new Float64Array(DIGITS);
  for (let i = 0; i < keys.length; i++) sums[keys[i]! >>> 16]! += amounts ? amounts[i]! : 1;
  const upper = descend(sums, 0, goal);
  if (!upper) return least;
  sums.fill(0);
  for (let i = 0; i < keys.length; i++) {
    if (keys[i]! >>> 16 === upper.digit) sums[keys[i]! & 0xffff]! += amounts ? amounts[i]! : 1;
  }
  const lower = descend(sums, upper.above, goal);
  return lower ? Math.max(upper.digit * DIGITS + lower.digit, least) : least;
}

function descend(sums: Float64Array, above: number, goal: number) {
  for (let digit = DIGITS - 1; digit >= 0; digit--) {
    if (sums[digit]! > 0 && above + sums[digit]! >= goal) return { digit, above };
    above += sums[digit]!;
  }
  return undefined;
}
