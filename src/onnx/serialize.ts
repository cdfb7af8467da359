/** Writes a graph in the ONNX format. */
import { create, toBinary, type MessageInitShape } from '@bufbuild/protobuf';
import type { Attribute, Constant, Dim, ElementType, Graph, GraphNode, Port } from './graph';
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

/** Where stored constants had better start in their file, in bytes: at whole pages, so that it can be mapped. */
export const PAGE = 4096;

const DATA_TYPE: Readonly<Record<ElementType, DataType>> = {
  f32: DataType.FLOAT,
  i32: DataType.INT32,
  i64: DataType.INT64,
  bool: DataType.BOOL,
};

/** The graph as the bytes of an ONNX model; stored constants are only named in it. */
export function serialize(graph: Graph): Uint8Array<ArrayBuffer> {
  const model = create(ModelProtoSchema, {
    irVersion: BigInt(IR_VERSION),
    producerName: 'webtinker',
    opsetImport: [{ domain: '', version: BigInt(OPSET) }],
    graph: {
      name: graph.name,
      node: graph.nodes.map(nodeOf),
      initializer: [...graph.constants.values()].map(tensorOf),
      input: [...graph.inputs.values()].map(portOf),
      output: [...graph.outputs.values()].map(portOf),
      valueInfo: [...graph.shapes.values()].map(portOf),
    },
  });
  return toBinary(ModelProtoSchema, model);
}

function tensorOf({ name, type, shape, data }: Constant): MessageInitShape<typeof TensorProtoSchema> {
  const header = { name, dataType: DATA_TYPE[type], dims: shape.map(BigInt) };
  if (!('location' in data)) return { ...header, rawData: bytesOf(data) };
  return {
    ...header,
    dataLocation: DataLocation.EXTERNAL,
    externalData: [
      { key: 'location', value: data.location },
      { key: 'offset', value: String(data.byteOffset) },
      { key: 'length', value: String(data.byteLength) },
    ],
  };
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
