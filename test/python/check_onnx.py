"""Checks exported models with the reference implementation of the format.

  python test/python/check_onnx.py MODEL.onnx …

Fails on what the specification does not allow; infers every shape. Prints a JSON list with the shape
of every output of each model.
"""
import json
import sys

import onnx


def check(path):
    onnx.checker.check_model(path, full_check=True)
    model = onnx.shape_inference.infer_shapes(onnx.load(path, load_external_data=False), strict_mode=True)
    return {
        output.name: [d.dim_value or d.dim_param for d in output.type.tensor_type.shape.dim]
        for output in model.graph.output
    }


if __name__ == "__main__":
    json.dump([check(path) for path in sys.argv[1:]], sys.stdout)
