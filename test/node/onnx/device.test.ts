import { nativeOpener } from '../../../src/engine/devices/onnx/native';
import { deviceContract } from '../../onnx/support/device-contract';

deviceContract('native', nativeOpener());
