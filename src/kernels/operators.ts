/** Spellings of ONNX operators that several lowerings use. */
import type { ElementType, Graph, Value } from '../onnx/graph';

/** @param shape 0 keeps the dimension of x in that place, −1 is what is left */
export const reshape = (graph: Graph, x: Value, shape: readonly number[]): Value =>
  graph.node('Reshape', [x, graph.i64(shape)]);

/** x as a vector. */
export const flatten = (graph: Graph, x: Value): Value => reshape(graph, x, [-1]);

/** Indices `start` to `end` of an axis. */
export const slice = (graph: Graph, x: Value, axis: number, start: number, end: number): Value =>
  graph.node('Slice', [x, graph.i64([start]), graph.i64([end]), graph.i64([axis])]);

export const concat = (graph: Graph, parts: readonly Value[], axis: number): Value =>
  parts.length === 1 ? parts[0]! : graph.node('Concat', parts, { axis });

/** Parts of the given sizes along an axis. */
export const split = (graph: Graph, x: Value, axis: number, sizes: readonly number[]): Value[] =>
  sizes.length === 1 ? [x] : graph.split('Split', [x, graph.i64(sizes)], sizes.length, { axis });

export const add = (graph: Graph, a: Value, b: Value): Value => graph.node('Add', [a, b]);
export const sub = (graph: Graph, a: Value, b: Value): Value => graph.node('Sub', [a, b]);
export const mul = (graph: Graph, a: Value, b: Value): Value => graph.node('Mul', [a, b]);
export const div = (graph: Graph, a: Value, b: Value): Value => graph.node('Div', [a, b]);

export const transpose = (graph: Graph, x: Value, order: readonly number[]): Value =>
  graph.node('Transpose', [x], { perm: order });

/** Numbers of the element types in the format. */
const ELEMENT_TYPE: Readonly<Record<ElementType, number>> = { f32: 1, i32: 6, i64: 7, bool: 9 };

export const cast = (graph: Graph, x: Value, type: ElementType): Value =>
  graph.node('Cast', [x], { to: ELEMENT_TYPE[type] }, type);

/** 0 where x is a number, NaN where it is NaN or infinite: added to a result it makes that NaN, too. */
export const fault = (graph: Graph, x: Value): Value => mul(graph, x, graph.f32(0));

/** A reduction along an axis, which stays with the size 1. */
export const reduce = (
  graph: Graph,
  op: 'ReduceSum' | 'ReduceSumSquare' | 'ReduceMean' | 'ReduceMax' | 'ReduceMin',
  x: Value,
  axis: number,
): Value => graph.node(op, [x, graph.i64([axis])], { keepdims: 1 });

export interface GemmOptions {
  readonly transA?: boolean;
  readonly transB?: boolean;
  /** factor of the product */
  readonly alpha?: number;
  /** added; may be broadcast to the product's shape */
  readonly add?: Value | undefined;
}

/** alpha·a·b + add, of matrices. */
export const gemm = (
  graph: Graph,
  a: Value,
  b: Value,
  { transA = false, transB = false, alpha = 1, add }: GemmOptions = {},
): Value =>
  graph.node('Gemm', add ? [a, b, add] : [a, b], {
    transA: Number(transA),
    transB: Number(transB),
    alpha: { float: alpha },
  });
