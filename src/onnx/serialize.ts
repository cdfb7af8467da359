/** Writes a graph in the ONNX format. */
import { create, toBinary, type MessageInitShape } from '@bufbuild/protobuf';
import type { Attribute, Constant, Dim, ElementType, Graph, GraphNode, Port, StoredData } from './graph';
import {
  AttributeProto_AttributeType as AttributeType,
  ModelProtoSchema,
  TensorProto_DataLocation as DataLocation,
  TensorProto_DataType as DataType,
  type AttributeProtoSchema,
  type NodeProtoSchema,
  type TensorProtoSchema,
  type ValueInfoProtoSchema,
} from './onnx_pb';

/** Version of the operators that graphs are written in. */
export const OPSET = 18;
/** Version of the file format: the oldest that goes with `OPSET`, so that older runtimes read it, too. */
const IR_VERSION = 8;

/** Where external data starts, in bytes: at whole pages, so that runtimes can map the file. */
export const PAGE = 4096;

const DATA_TYPE: Readonly<Record<ElementType, DataType>> = {
  f32: DataType.FLOAT,
  i32: DataType.INT32,
  i64: DataType.INT64,
  bool: DataType.BOOL,
};

/** A constant that lies in a file beside the model. */
export interface ExternalTensor {
  /** of the constant */
  readonly name: string;
  /** in the file */
  readonly byteOffset: number;
  readonly data: Uint8Array<ArrayBuffer>;
}

export interface SerializeOptions {
  /** Name of the file beside the model that takes the constants of `minBytes` and more; without it, none. */
  readonly external?: { readonly location: string; readonly minBytes: number };
}

export interface SerializedModel {
  /** the ModelProto */
  readonly model: Uint8Array<ArrayBuffer>;
  /** what belongs into the file beside it, in order; views of the constants, not copies */
  readonly external: readonly ExternalTensor[];
}

/** The graph as the bytes of an ONNX model. */
export function serialize(graph: Graph, { external }: SerializeOptions = {}): SerializedModel {
  const beside: ExternalTensor[] = [];
  let end = 0;
  const tensor = (constant: Constant): MessageInitShape<typeof TensorProtoSchema> => {
    const { name, type, shape } = constant;
    const header = { name, dataType: DATA_TYPE[type], dims: shape.map(BigInt) };
    const placed = (data: StoredData): MessageInitShape<typeof TensorProtoSchema> => ({
      ...header,
      dataLocation: DataLocation.EXTERNAL,
      externalData: [
        { key: 'location', value: data.location },
        { key: 'offset', value: String(data.byteOffset) },
        { key: 'length', value: String(data.byteLength) },
      ],
    });
    if ('location' in constant.data) return placed(constant.data);
    const data = bytesOf(constant.data);
    if (!external || data.byteLength < external.minBytes) return { ...header, rawData: data };
    const byteOffset = Math.ceil(end / PAGE) * PAGE;
    end = byteOffset + data.byteLength;
    beside.push({ name, byteOffset, data });
    return placed({ location: external.location, byteOffset, byteLength: data.byteLength });
  };
  const model = create(ModelProtoSchema, {
    irVersion: BigInt(IR_VERSION),
    producerName: 'webtinker',
    opsetImport: [{ domain: '', version: BigInt(OPSET) }],
    graph: {
      name: graph.name,
      node: graph.nodes.map(nodeOf),
      initializer: [...graph.constants.values()].map(tensor),
      input: [...graph.inputs.values()].map(portOf),
      output: [...graph.outputs.values()].map(portOf),
    },
  });
  return { model: toBinary(ModelProtoSchema, model), external: beside };
}

const bytesOf = (data: ArrayBufferView): Uint8Array<ArrayBuffer> =>
  new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);

function nodeOf({ op, inputs, outputs, attributes }: GraphNode): MessageInitShape<typeof NodeProtoSchema> {
  return {
    name: outputs[0]!,
    opType: op,
    input: [...inputs],
    output: [...outputs],
    attribute: Object.entries(attributes).map(([name, value]) => ({ name, ...attributeOf(value) })),
  };
}

const utf8 = new TextEncoder();

function attributeOf(value: Attribute): MessageInitShape<typeof AttributeProtoSchema> {
  if (typeof value === 'number') return { type: AttributeType.INT, i: BigInt(value) };
  if (typeof value === 'string') return { type: AttributeType.STRING, s: utf8.encode(value) };
  if ('float' in value) return { type: AttributeType.FLOAT, f: value.float };
  return { type: AttributeType.INTS, ints: value.map(BigInt) };
}

function portOf({ name, type, shape }: Port): MessageInitShape<typeof ValueInfoProtoSchema> {
  const elemType = DATA_TYPE[type];
  return {
    name,
    type: {
      value: {
        case: 'tensorType',
        value: shape ? { elemType, shape: { dim: shape.map(dimOf) } } : { elemType },
      },
    },
  };
}

const dimOf = (dim: Dim) => ({
  value:
    typeof dim === 'number'
      ? ({ case: 'dimValue', value: BigInt(dim) } as const)
      : ({ case: 'dimParam', value: dim } as const),
});
