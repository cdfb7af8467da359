/**
 * Entry for Node: the same names. This release's engine needs a browser's
 * WebGPU, so in Node the first call to it rejects with `WebGPUUnavailableError`;
 * data types, validation and clients of a `backend` of your own work.
 */
export * from './index';
