/**
 * What a kernel is: a WGSL body plus a typed description of what it binds.
 *
 * The body is never edited as text. Everything that specialises it (bindings,
 * the `Params` uniform struct, constants, enabled features) is *prepended* as a
 * generated prelude, so the line numbers of a compile error can be mapped back
 * to the file.
 */

/** Element types a storage binding may have. */
export type Elem = 'f32' | 'u32' | 'i32' | 'atomic<u32>' | 'vec2<f32>' | 'vec4<f32>' | 'vec4<u32>';

export interface BindingSpec {
  readonly elem: Elem;
  readonly access: 'read' | 'read_write';
}

/** Scalar types of a uniform parameter. */
export type ParamType = 'u32' | 'i32' | 'f32';

/** A compile-time constant. Whole numbers become `u32`, booleans `bool`; wrap a float as `{ f32 }`. */
export type Constant = number | boolean | { readonly f32: number };

export interface KernelSpec<B extends string = string, P extends string = string> {
  /** The file stem of the `.wgsl`; names the pipeline in errors and profiles. */
  readonly name: string;
  /** The WGSL body (import it with `?raw`). Its entry point is `main`. */
  readonly code: string;
  /** Storage bindings by name, in binding order. The prelude declares `var<storage, …> NAME: array<elem>`. */
  readonly bindings: Readonly<Record<B, BindingSpec>>;
  /** Fields of the uniform `params: Params`, in order. */
  readonly params: Readonly<Record<P, ParamType>>;
  /** WGSL `enable` directives the body needs, e.g. `subgroups`. */
  readonly enables?: readonly string[];
}

/** Declares a kernel; a function only so that binding and parameter names are inferred. */
export function kernel<const B extends string, const P extends string>(
  spec: KernelSpec<B, P>,
): KernelSpec<B, P> {
  return spec;
}

function constantSource(name: string, value: Constant): string {
  if (typeof value === 'boolean') return `const ${name}: bool = ${value};`;
  if (typeof value === 'number') {
    if (!Number.isInteger(value) || value < 0) {
      throw new Error(`kernel constant ${name} = ${value}: whole numbers ≥ 0 only; wrap floats as { f32 }`);
    }
    return `const ${name}: u32 = ${value}u;`;
  }
  return `const ${name}: f32 = f32(${value.f32});`;
}

/** The WGSL text put in front of the body. */
export function preludeOf(spec: KernelSpec, constants: Readonly<Record<string, Constant>>): string {
  const lines: string[] = [];
  for (const feature of spec.enables ?? []) lines.push(`enable ${feature};`);
  for (const [name, value] of Object.entries(constants)) lines.push(constantSource(name, value));
  let slot = 0;
  for (const [name, { elem, access }] of Object.entries(spec.bindings)) {
    lines.push(`@group(0) @binding(${slot++}) var<storage, ${access}> ${name}: array<${elem}>;`);
  }
  const fields = Object.entries(spec.params);
  if (fields.length > 0) {
    lines.push(`struct Params { ${fields.map(([n, t]) => `${n}: ${t}`).join(', ')} };`);
    lines.push(`@group(0) @binding(${slot}) var<uniform> params: Params;`);
  }
  return lines.join('\n') + '\n';
}

/** Writes a parameter record into `view` at `byteOffset`, in the layout of the generated `Params`. */
export function packParams(
  spec: KernelSpec,
  values: Readonly<Record<string, number>>,
  view: DataView,
  byteOffset: number,
): void {
  let at = byteOffset;
  for (const [name, type] of Object.entries(spec.params)) {
    const value = values[name];
    if (value === undefined) throw new Error(`kernel ${spec.name}: parameter ${name} is missing`);
    if (type === 'f32') view.setFloat32(at, value, true);
    else if (type === 'i32') view.setInt32(at, value, true);
    else view.setUint32(at, value, true);
    at += 4;
  }
}

/** Workgroup counts (x, y, z). */
export type Grid = readonly [number, number, number];

/**
 * Spreads `count` workgroups over x and y, since no dimension may exceed 65,535.
 * The kernel recovers the index as `wid.x + wid.y * num_workgroups.x` and must
 * return when it is past the end.
 */
export function spread(count: number): Grid {
  const LIMIT = 65535;
  if (count <= LIMIT) return [count, 1, 1];
  const y = Math.ceil(count / LIMIT);
  return [Math.ceil(count / y), y, 1];
}

export const ceilDiv = (a: number, b: number): number => Math.ceil(a / b);
