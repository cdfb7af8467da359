/** TensorData: what it is made of, dense and sparse, and what it refuses. */
import { describe, expect, it } from 'vitest';
import { BadRequestError, Datum, ModelInput, TensorData, type TensorDataInit } from '../../src/index';

/** (6, 5) with three non-zeros: 7 + 6 numbers as CSR, 30 dense. */
const SPARSE = [
  [0, 0, 0, 0, 0],
  [0, 3, 0, 0, 4],
  [0, 0, 0, 0, 0],
  [0, 0, 0, 0, 0],
  [0, 0, 0, 0, 0],
  [-5, 0, 0, 0, 0],
];
const CSR = { crowIndices: [0, 0, 2, 2, 2, 2, 3], colIndices: [1, 4, 0] };

describe('a sparse tensor', () => {
  it('keeps the non-zeros of a matrix and where they are, and gives it back', () => {
    const tensor = TensorData.fromDense(SPARSE, 'int64');
    expect(tensor).toMatchObject({ dtype: 'int64', shape: [6, 5], csr: CSR });
    expect(tensor.data).toEqual(Float64Array.of(3, 4, -5));
    expect(tensor.toNested()).toEqual(SPARSE);
    expect(tensor.toArray()).toEqual(SPARSE.flat());
    const dense = tensor.toDense();
    expect(dense.csr).toBeUndefined();
    expect(dense).toEqual(TensorData.fromArray(SPARSE, 'int64'));
    expect(dense.toDense()).toBe(dense);
  });

  it('can be made from its parts', () => {
    const tensor = new TensorData({ dtype: 'float32', shape: [6, 5], data: [3, 4, -5], csr: CSR });
    expect(tensor).toEqual(TensorData.fromDense(SPARSE));
  });

  // (rows + 1) + 2·nnz < rows·cols
  it.each<[string, number[][], boolean]>([
    ['one fewer number', [[1, 0, 0, 0, 0, 0, 0, 0]], true],
    ['(1, 4) with one, as many as dense', [[1, 0, 0, 0]], false],
    ['(1, 5) with one', [[1, 0, 0, 0, 0]], true],
    ['no zeros', [[1, 2], [3, 4]], false], // prettier-ignore
    ['zeros only', [[0, 0], [0, 0], [0, 0]], true], // prettier-ignore
    ['nothing at all', [[], []], false],
  ])('is chosen where it is smaller: %s', (_, matrix, sparse) => {
    expect(TensorData.fromDense(matrix).csr !== undefined).toBe(sparse);
    expect(TensorData.fromDense(matrix).toNested()).toEqual(matrix);
  });

  it('is never chosen for other than two dimensions', () => {
    for (const values of [Array<number>(100).fill(0), [[Array<number>(100).fill(0)]]]) {
      expect(TensorData.fromDense(values).csr).toBeUndefined();
    }
  });

  const part = (changes: Partial<TensorDataInit>): TensorDataInit => ({
    dtype: 'float32',
    shape: [6, 5],
    data: [3, 4, -5],
    csr: CSR,
    ...changes,
  });
  it.each<[string, TensorDataInit, string]>([
    ['without a shape', part({ shape: undefined }), 'TensorData.shape: must be given'],
    ['of one dimension', part({ shape: [30] }), 'TensorData.shape: sparse tensors have two'],
    ['with a value too few', part({ data: [3, 4] }), 'csr.colIndices: must be one for each of 2'],
    ['with a row too few', part({ shape: [7, 5] }), 'csr.crowIndices: must be 8 for 7 rows'],
    [
      'that ends early',
      part({ csr: { ...CSR, crowIndices: [0, 0, 2, 2, 2, 2, 2] } }),
      'csr.crowIndices: must go from 0 to 3, got 0 to 2',
    ],
    [
      'with falling rows',
      part({ csr: { ...CSR, crowIndices: [0, 2, 1, 2, 2, 2, 3] } }),
      'csr.crowIndices[2]',
    ],
    ['with a column outside', part({ csr: { ...CSR, colIndices: [1, 5, 0] } }), 'csr.colIndices[1]: must be'],
    ['with a column twice', part({ csr: { ...CSR, colIndices: [1, 1, 0] } }), 'csr.colIndices[1]: must be'],
  ])('%s is refused', (_, init, message) => {
    expect(() => new TensorData(init)).toThrow(BadRequestError);
    expect(() => new TensorData(init)).toThrow(message);
  });
});

describe('a tensor', () => {
  it('takes plain and typed numbers, and its own kind without a copy', () => {
    expect(new TensorData({ dtype: 'int64', data: [1, 2] })).toEqual(TensorData.fromArray([1, 2], 'int64'));
    expect(new TensorData({ dtype: 'float32', data: Int32Array.of(1, 2) }).data).toEqual(
      Float32Array.of(1, 2),
    );
    const data = new Float32Array(4);
    expect(new TensorData({ dtype: 'float32', shape: [2, 2], data }).data).toBe(data);
    expect(TensorData.fromArray(data).data).not.toBe(data);
  });

  it('narrows to the service’s two types', () => {
    expect(TensorData.fromArray(Float64Array.of(0.1)).data).toEqual(Float32Array.of(0.1));
    expect(TensorData.fromArray(Uint8Array.of(255))).toMatchObject({ dtype: 'int64' });
    expect(TensorData.fromArray([2 ** 53 - 1], 'int64').toArray()).toEqual([2 ** 53 - 1]);
  });

  it.each<[string, () => unknown, string]>([
    ['another dtype', () => new TensorData({ dtype: 'int32' as 'int64', data: [] }), 'TensorData.dtype'],
    [
      'a fraction as int64',
      () => new TensorData({ dtype: 'int64', data: [1.5] }),
      'TensorData[0]: must be a whole',
    ],
    ['2^53 as int64', () => new TensorData({ dtype: 'int64', data: [2 ** 53] }), 'TensorData[0]'],
    [
      'a negative size',
      () => new TensorData({ dtype: 'float32', shape: [-1], data: [] }),
      'TensorData.shape[0]',
    ],
    [
      'too few numbers',
      () => new TensorData({ dtype: 'float32', shape: [2, 2], data: [1] }),
      'needs 4 numbers, got 1',
    ],
  ])('refuses %s', (_, make, message) => {
    expect(make).toThrow(BadRequestError);
    expect(make).toThrow(message);
  });
});

describe('matrices in a datum', () => {
  const modelInput = ModelInput.fromInts([1, 2, 3, 4, 5, 6]);

  it('become sparse under target_tokens and weights, each by itself', () => {
    const targets = SPARSE.map((row) => row.map((x, k) => Math.abs(x) + k + 1));
    const { lossFnInputs } = new Datum({
      modelInput,
      lossFnInputs: { target_tokens: targets, weights: SPARSE },
    });
    expect(lossFnInputs.target_tokens).toEqual(TensorData.fromArray(targets, 'int64'));
    expect(lossFnInputs.weights).toMatchObject({ dtype: 'float32', shape: [6, 5], csr: CSR });
  });

  it('stay dense under other keys and as tensors', () => {
    const weights = TensorData.fromArray(SPARSE);
    const { lossFnInputs } = new Datum({ modelInput, lossFnInputs: { advantages: SPARSE, weights } });
    expect(lossFnInputs.advantages!.csr).toBeUndefined();
    expect(lossFnInputs.weights).toBe(weights);
  });

  it('must be rectangular', () => {
    const make = (): Datum => new Datum({ modelInput, lossFnInputs: { target_tokens: [[1, 2], [3]] } });
    expect(make).toThrow('loss_fn_inputs.target_tokens[1]: lists must have equal lengths');
  });
});
