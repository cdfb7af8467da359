/** The angles of rotary position embeddings, with the scaling variants of Hugging Face configurations. */

export interface RopeConfig {
  /** base of the wavelengths (`rope_theta`) */
  readonly theta: number;
  /** features of a head that turn; even */
  readonly headDim: number;
  /** `rope_scaling` or `rope_parameters` of the model's config.json */
  readonly scaling?: unknown;
}

const round = Math.fround;

/** The rounding of each step follows transformers, which works in f32: far positions depend on it. */
function frequencies({ theta, headDim }: RopeConfig): number[] {
  return Array.from({ length: headDim / 2 }, (_, i) => {
    const exponent = round((2 * i) / headDim);
    return round(1 / round(theta ** exponent));
  });
}

class Scaling {
  constructor(
    readonly type: string,
    readonly fields: Readonly<Record<string, unknown>>,
  ) {}

  number(name: string, fallback?: number): number {
    const value = this.fields[name] ?? fallback;
    if (typeof value !== 'number') throw new Error(`RoPE scaling '${this.type}' needs a number ${name}`);
    return value;
  }
}

function readScaling(raw: unknown): Scaling {
  if (raw === undefined || raw === null) return new Scaling('default', {});
  if (typeof raw !== 'object') throw new Error(`RoPE scaling is not an object: ${JSON.stringify(raw)}`);
  const fields = raw as Record<string, unknown>;
  const share = fields.partial_rotary_factor ?? 1;
  if (share !== 1) throw new Error(`RoPE: partial_rotary_factor ${JSON.stringify(share)} is not supported`);
  const type = fields.rope_type ?? fields.type ?? 'default';
  if (typeof type !== 'string') throw new Error(`RoPE scaling: type ${JSON.stringify(type)} is not a name`);
  return new Scaling(type, fields);
}

/** Long wavelengths are stretched by `factor`, short ones kept, those between blended (Llama 3.1). */
function llama3(inverse: readonly number[], scaling: Scaling): number[] {
  const factor = scaling.number('factor');
  const low = scaling.number('low_freq_factor');
  const high = scaling.number('high_freq_factor');
  const context = scaling.number('original_max_position_embeddings');
  return inverse.map((f) => {
    const wavelength = (2 * Math.PI) / f;
    if (wavelength < context / high) return f;
    if (wavelength > context / low) return round(f / factor);
    const smooth = (context / wavelength - low) / (high - low);
    return round((1 - smooth) * (f / factor) + smooth * f);
  });
}

/** YaRN (Peng et al. 2023, arXiv 2309.00071): interpolates slow features, keeps fast ones, warms attention. */
function yarn(inverse: readonly number[], scaling: Scaling, { theta, headDim }: RopeConfig) {
  const factor = scaling.number('factor');
  const context = scaling.number('original_max_position_embeddings');
  const warmth = (scale: number, m: number): number => (scale <= 1 ? 1 : 0.1 * m * Math.log(scale) + 1);
  const feature = (turns: number): number =>
    (headDim * Math.log(context / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
  const whole = scaling.fields.truncate !== false;
  const first = feature(scaling.number('beta_fast', 32));
  const last = feature(scaling.number('beta_slow', 1));
  const low = Math.max(whole ? Math.floor(first) : first, 0);
  let high = Math.min(whole ? Math.ceil(last) : last, headDim - 1);
  if (low === high) high += 0.001;
  const ramp = (i: number): number => Math.min(1, Math.max(0, (i - low) / (high - low)));
  const m = scaling.fields.mscale;
  const mAll = scaling.fields.mscale_all_dim;
  const natural =
    typeof m === 'number' && typeof mAll === 'number' && m !== 0 && mAll !== 0
      ? warmth(factor, m) / warmth(factor, mAll)
      : warmth(factor, 1);
  return {
    inverse: inverse.map((f, i) => round((f / factor) * ramp(i) + f * (1 - ramp(i)))),
    attention: scaling.number('attention_factor', natural),
  };
}

/**
 * The table `rope` reads: (positions, headDim) f32, row p holding cos then sin of
 * p × each frequency, times the attention factor where the scaling has one.
 * Knows the scalings default, linear, llama3 and yarn.
 * @throws Error naming a scaling it does not know, or a field the scaling lacks.
 */
export function ropeTable(config: RopeConfig, positions: number): Float32Array<ArrayBuffer> {
  const { headDim } = config;
  const half = headDim / 2;
  if (!Number.isInteger(half)) throw new Error(`RoPE: head dimension ${headDim} is odd`);
  const scaling = readScaling(config.scaling);
  let inverse = frequencies(config);
  let attention = 1;
  switch (scaling.type) {
    case 'default':
      break;
    case 'linear': {
      const factor = scaling.number('factor');
      inverse = inverse.map((f) => round(f / factor));
      break;
    }
    case 'llama3':
      inverse = llama3(inverse, scaling);
      break;
    case 'yarn':
      ({ inverse, attention } = yarn(inverse, scaling, config));
      break;
    default:
      throw new Error(`RoPE scaling '${scaling.type}' is not supported (default, linear, llama3, yarn are)`);
  }
  const table = new Float32Array(positions * headDim);
  for (let p = 0; p < positions; p++) {
    inverse.forEach((f, i) => {
      const angle = round(p * f);
      table[p * headDim + i] = round(Math.cos(angle)) * attention;
      table[p * headDim + half + i] = round(Math.sin(angle)) * attention;
    });
  }
  return table;
}
