/**
 * An ONNX graph in memory, written operator by operator (default domain, opset 17 or later).
 * It knows nothing of tensors of traces, of runtimes, or of how it is serialised.
 */

/** Element types that occur. Ids and other unsigned numbers travel as `i32`, bit for bit. */
export type ElementType = 'f32' | 'i32' | 'i64' | 'bool';

/** A value of a graph: an input, a constant, or what a node computes. */
export interface Value {
  readonly name: string;
  readonly type: ElementType;
}

/** A dimension: a number, or a name for one that is known at run time. */
export type Dim = number | string;

/** An attribute of a node: whole numbers are INT, lists of them INTS; wrap floats as `{ float }`. */
export type Attribute = number | string | readonly number[] | { readonly float: number };
export type Attributes = Readonly<Record<string, Attribute>>;

export interface GraphNode {
  readonly op: string;
  /** names; '' leaves an optional input out */
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: Attributes;
}

export interface Constant extends Value {
  readonly shape: readonly number[];
  /** little-endian, row-major */
  readonly data: Float32Array | Int32Array | BigInt64Array | Uint8Array | StoredData;
}

/** Where the data of a constant lie that the graph does not hold: a stretch of a file beside the model. */
export interface StoredData {
  /** relative to the model's folder */
  readonly location: string;
  readonly byteOffset: number;
  readonly byteLength: number;
}

/** An input or output of the whole graph. */
export interface Port extends Value {
  /** undefined: not said */
  readonly shape: readonly Dim[] | undefined;
}

export class Graph {
  readonly nodes: GraphNode[] = [];
  readonly constants = new Map<string, Constant>();
  readonly inputs = new Map<string, Port>();
  readonly outputs = new Map<string, Port>();
  /** of values between inputs and outputs, where it is said */
  readonly shapes = new Map<string, Port>();
  readonly #once = new Map<string, unknown>();
  #count = 0;

  constructor(readonly name: string) {}

  /** Declares an input of the graph. */
  input(name: string, type: ElementType, shape?: readonly Dim[]): Value {
    if (this.inputs.has(name)) throw new Error(`graph ${this.name}: input ${name} is declared twice`);
    const port: Port = { name, type, shape };
    this.inputs.set(name, port);
    return port;
  }

  /** Makes a value an output of the graph under a name of its own. */
  output(name: string, value: Value, shape?: readonly Dim[]): void {
    if (this.outputs.has(name)) throw new Error(`graph ${this.name}: output ${name} is named twice`);
    this.nodes.push({ op: 'Identity', inputs: [value.name], outputs: [name], attributes: {} });
    this.outputs.set(name, { name, type: value.type, shape });
  }

  /** Adds a node with one output. @param type of the output; default: that of the first input */
  node(
    op: string,
    inputs: readonly (Value | undefined)[],
    attributes: Attributes = {},
    type?: ElementType,
  ): Value {
    return this.split(op, inputs, 1, attributes, type)[0]!;
  }

  /** Adds a node with several outputs of one type (Split); for outputs of several types see `types`. */
  split(
    op: string,
    inputs: readonly (Value | undefined)[],
    count: number,
    attributes: Attributes = {},
    types: ElementType | readonly ElementType[] = inputs[0]!.type,
  ): Value[] {
    const id = this.#count++;
    const values = Array.from({ length: count }, (_, i): Value => ({
      name: count === 1 ? `${op}_${id}` : `${op}_${id}_${i}`,
      type: typeof types === 'string' ? types : types[i]!,
    }));
    this.nodes.push({
      op,
      inputs: inputs.map((value) => value?.name ?? ''),
      outputs: values.map(({ name }) => name),
      attributes,
    });
    return values;
  }

  /**
   * Says what shape a value has, where the operator alone does not tell. A runtime gives memory that is free again
   * only to values of a shape known to be equal, and computes in place only there.
   * @returns the value
   */
  shaped(value: Value, shape: readonly Dim[]): Value {
    this.shapes.set(value.name, { ...value, shape });
    return value;
  }

  /** A constant under a name of its own, such as a weight; its data is not copied. */
  constant(name: string, type: ElementType, shape: readonly number[], data: Constant['data']): Value {
    if (this.constants.has(name)) throw new Error(`graph ${this.name}: constant ${name} is declared twice`);
    const constant: Constant = { name, type, shape, data };
    this.constants.set(name, constant);
    return constant;
  }

  /** A constant of f32: a scalar, or a tensor of `shape`. Equal small ones are shared. */
  f32(data: number | Float32Array | readonly number[], shape?: readonly number[]): Value {
    return this.#constant(
      'f32',
      typeof data === 'number' ? [data] : data,
      typeof data === 'number' ? [] : shape,
    );
  }

  /** A constant of i32: a scalar, or a vector. */
  i32(data: number | readonly number[]): Value {
    return this.#constant(
      'i32',
      typeof data === 'number' ? [data] : data,
      typeof data === 'number' ? [] : undefined,
    );
  }

  /** A constant of i64, as axes, shapes and indices are: a scalar, or a vector. */
  i64(data: number | readonly number[]): Value {
    return this.#constant(
      'i64',
      typeof data === 'number' ? [data] : data,
      typeof data === 'number' ? [] : undefined,
    );
  }

  /** What `make` returns, made once for each `key`: for values that several nodes of a trace need. */
  once<T>(key: string, make: () => T): T {
    if (!this.#once.has(key)) this.#once.set(key, make());
    return this.#once.get(key) as T;
  }

  #constant(
    type: 'f32' | 'i32' | 'i64',
    data: Float32Array | readonly number[],
    shape: readonly number[] = [data.length],
  ): Value {
    const make = (): Value => {
      const name = `const_${this.constants.size}`;
      const constant: Constant = { name, type, shape, data: CONSTANTS[type](data) };
      this.constants.set(name, constant);
      return constant;
    };
    if (data.length > SHARED) return make();
    return this.once(
      `constant ${type} ${shape.join('×')}: ${[...data].map((x) => (Object.is(x, -0) ? '-0' : x)).join()}`,
      make,
    );
  }
}

/** Elements up to which equal constants are found. */
const SHARED = 16;

const CONSTANTS = {
  f32: (data: ArrayLike<number>): Float32Array => Float32Array.from(data),
  i32: (data: ArrayLike<number>): Int32Array => Int32Array.from(data),
  i64: (data: ArrayLike<number>): BigInt64Array => BigInt64Array.from(Array.from(data, BigInt)),
} as const;
