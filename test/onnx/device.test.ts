import { wasmOpener } from '../../src/engine/devices/onnx/wasm';
import { deviceContract } from './support/device-contract';

deviceContract('WebAssembly', wasmOpener());
